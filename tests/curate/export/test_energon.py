"""Megatron-Energon indexes and reads an export as its card says."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from curate.export.config import layout_of
from pipelines.drivers.export import export
from tests.support.exportable import write_dataset

PRINT = """
import json
print("read", json.dumps({sample["__key__"]: [sample["txt"], "mp4" in sample, "png" in sample] for sample in loader}))
"""


@pytest.mark.slow
def test_energon_prepares_it_and_its_loader_yields_the_samples(tmp_path: Path) -> None:
    pytest.importorskip("megatron.energon")
    out = tmp_path / "out"
    export(write_dataset(tmp_path / "dataset"), str(out), layout_of("energon"))
    command, code = re.findall(r"```(?:python)?\n(.*?)```", (out / "README.md").read_text(), flags=re.S)
    prepare = command.strip().replace("DIR", str(out)).replace("'", "").split()
    assert prepare[:2] == ["energon", "prepare"]
    tool = str(Path(sys.executable).parent / "energon")
    subprocess.run([tool, *prepare[1:], "--num-workers", "1"], check=True, capture_output=True)
    assert (out / ".nv-meta/dataset.yaml").read_text().endswith("CrudeWebdataset\n")
    code = code.replace("DIR", str(out)).replace("num_workers=4", "num_workers=0")
    code = code.replace("batch_size=None", "batch_size=None, repeat=False")
    done = subprocess.run([sys.executable, "-c", code + PRINT], capture_output=True, text=True)
    [line] = re.findall(r"^read (.*)$", done.stdout, flags=re.M)
    expected = {f"{n:032x}": ["short 6" if n == 6 else "", n % 3 != 1, n % 3 == 1] for n in range(7)}
    assert json.loads(line) == expected
