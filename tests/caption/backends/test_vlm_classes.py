"""The contract that every vision–language class keeps, in the files that its repositories have."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from caption.backends.base import CaptionRequest
from caption.backends.transformers_vlm import TransformersVlm, TransformersVlmConfig
from tests.support.vlm_checkpoints import CHECKPOINTS, PIXELS, put_template, template, write_checkpoint

Make = Callable[[str], Path]
NAMES = [name for name, checkpoint in CHECKPOINTS.items() if checkpoint.template_in]

NEED_TORCHVISION = {"pixtral"}
"""Their processors ask for it, though they do without."""

WITHOUT_TORCHVISION = """
import json, sys
from importlib.machinery import PathFinder

class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] == "torchvision" else PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Finder
from tests.caption.backends.test_vlm_classes import captions
found = {}
for name, folder in zip(sys.argv[1::2], sys.argv[2::2]):
    try:
        found[name] = captions(name, folder)
    except ValueError as error:
        found[name] = str(error)
print(json.dumps(found))
"""


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    root = tmp_path_factory.mktemp("checkpoints")
    return cache(lambda name: write_checkpoint(name, root / name))


def load(folder: Path | str) -> TransformersVlm:
    vlm = TransformersVlm(TransformersVlmConfig(model=str(folder), dtype="float32", device="cpu"))
    vlm.setup()
    return vlm


def requests() -> list[CaptionRequest]:
    """Clips of 4, 1 and 2 frames: wide, tall, and wider."""
    rng = np.random.default_rng(0)
    return [
        CaptionRequest(
            frames=rng.integers(0, 256, (num, 6, 8, 3), np.uint8).repeat(rows, 1).repeat(columns, 2),
            prompt="describe this video",
            max_tokens=6,
        )
        for num, rows, columns in ((4, 8, 8), (1, 12, 6), (2, 6, 14))
    ]


def captions(name: str, folder: Path | str) -> list[str]:
    return [result.text for result in load(folder).caption(requests())]


@pytest.mark.parametrize("name", NAMES)
def test_a_clip_gets_the_same_caption_alone_and_beside_others(make: Make, name: str):
    vlm = load(make(name))
    together = vlm.caption(requests())
    assert together == [vlm.caption([request])[0] for request in requests()]
    assert len({result.text for result in together}) > 1, "every clip got the same text: the images do not count"
    assert all(result.num_output_tokens for result in together)


@pytest.mark.parametrize("name", NAMES)
def test_the_language_model_alone_and_seeded_requests_do_not_depend_on_the_batch(make: Make, name: str):
    vlm = load(make(name))
    alone = CaptionRequest(frames=np.zeros((0, 0, 0, 3), np.uint8), prompt="a rabbit in a meadow", max_tokens=6)
    asked = [*(replace(request, seed=1) for request in requests()), alone, replace(alone, prompt="video", seed=2)]
    together = vlm.caption(asked)
    assert together == [vlm.caption([request])[0] for request in asked]
    assert all(result.num_output_tokens for result in together)
    assert [result.text for result in together[:3]] != captions(name, make(name))


@pytest.mark.slow
def test_without_torchvision_captions_are_the_same(make: Make):
    folders = {name: str(make(name)) for name in NAMES}
    arguments = [word for pair in folders.items() for word in pair]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCHVISION, *arguments],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    for name in NEED_TORCHVISION:
        assert "requires the Torchvision library" in found.pop(name)
    assert found == {name: captions(name, folders[name]) for name in found}
    assert len(found) == len(NAMES) - len(NEED_TORCHVISION)


@pytest.mark.parametrize("file", ["chat_template.jinja", "chat_template.json", "tokenizer_config.json"])
def test_the_chat_template_is_found_wherever_a_repository_keeps_it(make: Make, tmp_path: Path, file: str):
    folder = _copy(make("qwen2_vl"), tmp_path)
    (folder / "chat_template.json").unlink()
    put_template(folder, file, template(CHECKPOINTS["qwen2_vl"].picture))
    assert captions("qwen2_vl", folder) == captions("qwen2_vl", make("qwen2_vl"))


@pytest.mark.parametrize("name", ["Qwen2VLImageProcessorFast", "Qwen2_5_VLImageProcessor", None])
def test_the_image_processor_is_found_by_old_and_new_names(make: Make, tmp_path: Path, name: str | None):
    """The second stands in checkpoints that were tuned before the class's release, and was never a class of it."""
    folder = _copy(make("qwen2_5_vl"), tmp_path)
    _edit(folder / "preprocessor_config.json", image_processor_type=name)
    assert captions("qwen2_5_vl", folder) == captions("qwen2_5_vl", make("qwen2_5_vl"))


def test_all_settings_may_stand_in_processor_config_json(make: Make, tmp_path: Path):
    """As transformers 5 writes them."""
    folder = _copy(make("llava_onevision"), tmp_path)
    parts = {
        part: json.loads((folder / f"{file}preprocessor_config.json").read_text())
        for part, file in (("image_processor", ""), ("video_processor", "video_"))
    }
    for file in ("preprocessor_config.json", "video_preprocessor_config.json"):
        (folder / file).unlink()
    _edit(folder / "processor_config.json", **parts)
    assert captions("llava_onevision", folder) == captions("llava_onevision", make("llava_onevision"))


def test_a_class_without_a_chat_template_is_refused_with_the_remedy(make: Make):
    with pytest.raises(ValueError, match=r"paligemma.*no chat template.*chat_template\.jinja"):
        load(make("paligemma"))


def test_a_chat_template_for_text_alone_is_refused(make: Make, tmp_path: Path):
    folder = _copy(make("llava"), tmp_path)
    put_template(folder, "chat_template.json", "{% for m in messages %}{{ m['content'][-1]['text'] }}{% endfor %}")
    with pytest.raises(ValueError, match="leaves out the images"):
        load(folder)


def test_weights_that_are_missing_are_not_left_random(make: Make, tmp_path: Path):
    from safetensors.torch import load_file, save_file

    folder = _copy(make("llava"), tmp_path)
    weights = load_file(folder / "model.safetensors")
    weights.pop(next(name for name in weights if "multi_modal_projector" in name))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="1 of its weights are not in the checkpoint"):
        load(folder)


def test_a_package_that_a_class_needs_is_named(make: Make, monkeypatch: pytest.MonkeyPatch):
    from transformers.models.smolvlm import processing_smolvlm

    monkeypatch.setattr(processing_smolvlm, "num2words", None)
    with pytest.raises(ValueError, match=r"(?s)num2words.*reelpack\[caption\]"):
        load(make("smolvlm"))


@pytest.mark.parametrize("trust_remote_code", [False, True])
def test_own_code_without_the_class_is_refused_and_not_run(make: Make, tmp_path: Path, trust_remote_code: bool):
    """As the InternVL repositories that are not converted for transformers have it."""
    folder = _copy(make("internvl"), tmp_path)
    own = {
        "AutoConfig": "configuration_x.XConfig",
        "AutoModel": "modeling_x.X",
        "AutoModelForCausalLM": "modeling_x.X",
    }
    (folder / "config.json").write_text(json.dumps({"model_type": "internvl_chat", "auto_map": own}))
    (folder / "configuration_x.py").write_text("raise SystemExit('it was run')")
    vlm = TransformersVlm(TransformersVlmConfig(model=str(folder), trust_remote_code=trust_remote_code))
    with pytest.raises(ValueError, match=r"no AutoModelForImageTextToText \(it has AutoConfig, AutoModel.*-hf"):
        vlm.setup()


@pytest.mark.parametrize("damaged", ["config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json"])
def test_a_damaged_file_ends_in_one_message(make: Make, tmp_path: Path, damaged: str):
    folder = _copy(make("qwen2_vl"), tmp_path)
    (folder / damaged).write_bytes(b"{")
    with pytest.raises(ValueError, match="caption model"):
        load(folder)


def _copy(folder: Path, root: Path) -> Path:
    return Path(shutil.copytree(folder, root / folder.name))


def _edit(file: Path, **changes: object) -> None:
    stored = json.loads(file.read_text()) if file.exists() else dict(PIXELS)
    file.write_text(json.dumps({name: value for name, value in (stored | changes).items() if value is not None}))


def test_weights_with_objects_in_them_are_one_message_and_are_not_loaded(make: Make, tmp_path: Path):
    folder = Path(shutil.copytree(make("llava"), tmp_path / "llava"))
    (folder / "model.safetensors").unlink()
    torch.save({"weight": Fraction(1, 2)}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"caption model .*: its weights hold more than tensors") as error:
        load(folder)
    assert "weights_only" not in str(error.value)
