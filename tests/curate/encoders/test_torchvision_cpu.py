"""Each case in a process of its own: an import of torchvision succeeds or fails once per process."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def run(code: str, *first_on_path: Path) -> subprocess.CompletedProcess[str]:
    path = [str(folder) for folder in (*first_on_path, ROOT)]
    return subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}\n{code}"],
        capture_output=True,
        text=True,
        check=False,
    )


def stand_in(folder: Path, code: str) -> Path:
    """A package `torchvision` that shadows the installed one."""
    (folder / "torchvision").mkdir()
    (folder / "torchvision" / "__init__.py").write_text(code)
    return folder


def test_what_stands_on_torchvision_imports_and_its_transforms_work() -> None:
    result = run(
        "from curate.encoders.torchvision_cpu import repair\n"
        "repair(); repair()\n"
        "import open_clip, timm\n"
        "from transformers import BertModel, CLIPImageProcessor\n"
        "import torch\n"
        "from torchvision.transforms import v2\n"
        "image = torch.arange(48, dtype=torch.uint8).reshape(3, 4, 4)\n"
        "assert torch.equal(v2.functional.center_crop(image, [2, 2]), image[:, 1:3, 1:3])\n"
    )
    assert result.returncode == 0, result.stderr


def test_a_working_torchvision_is_left_alone(tmp_path: Path) -> None:
    result = run(
        "from curate.encoders.torchvision_cpu import repair\n"
        "repair()\n"
        "import torch, torchvision\n"
        "assert torchvision.works and not hasattr(torch.ops.torchvision, 'nms')\n",
        stand_in(tmp_path, "works = True"),
    )
    assert result.returncode == 0, result.stderr


def test_another_failure_of_torchvision_is_not_hidden(tmp_path: Path) -> None:
    code = "from curate.encoders.torchvision_cpu import repair\nrepair()"
    assert "out of order" in run(code, stand_in(tmp_path, "raise RuntimeError('out of order')")).stderr


def test_a_machine_without_torchvision_needs_no_repair(tmp_path: Path) -> None:
    absent = "raise ModuleNotFoundError(\"No module named 'torchvision'\", name='torchvision')"
    result = run("from curate.encoders.torchvision_cpu import repair\nrepair()", stand_in(tmp_path, absent))
    assert result.returncode == 0, result.stderr
