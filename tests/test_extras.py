"""Each extra brings what its commands need: they are run where nothing else can be imported."""

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from pipelines.config import load_config
from pipelines.drivers.encode import encode
from tests.support.caption_checks import OVERRIDES
from tests.support.curated import caption, curated
from tests.support.environments import python_with
from tests.support.vlm_checkpoints import write_checkpoint

pytestmark = pytest.mark.slow
SMALL = ["model.width=32", "model.num_heads=2", "model.depth=1", "steps=2", "device=cpu", "data.plan.token_budget=512"]
TRAIN = [part for setting in SMALL for part in ("--set", f"train.{setting}")]
SAMPLE = ["--size", "64x48", "--frames", "5", "--set", "sample.num_steps=2", "--set", "sample.device=cpu"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Films, and a dataset of them that is captioned and encoded."""
    made = curated(tmp_path_factory.mktemp("extras"))
    caption(made.dataset)
    encode(made.url, load_config(overrides=["execute.executor=local", "encode.max_area_px=6144"]))
    return made


@pytest.fixture(scope="module")
def trained(made: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained where there is the extra `train` alone."""
    box = Box("train", tmp_path_factory.mktemp("train"))
    tasks = "train.data.tasks=[{kind: unconditional}, {kind: first_frames}]"
    train = ["train", made.url, "--out", "run", *TRAIN, "--set", tasks]
    box.reelpack(train, ["train-export", "run", "--out", "exported"])
    return box.folder / "run"


class Box:
    """A machine with these extras."""

    def __init__(self, extras: str, folder: Path) -> None:
        self.folder = folder
        self._command = python_with(extras, folder / "environment")

    def reelpack(self, *commands: list[str], code: int = 0) -> str:
        """What the commands print, all in one process; it ends with `code`."""
        done = subprocess.run([*self._command, json.dumps(commands)], capture_output=True, text=True, cwd=self.folder)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr


def test_without_extras_tables_are_read_and_what_is_missing_is_named(made: SimpleNamespace, tmp_path: Path) -> None:
    box = Box("", tmp_path)
    select = ["select", made.url, "--set", "select.rules.motion.max=99"]
    explain, plan = ["explain", made.url, str(made.films / "1.mp4")], ["train-plan", made.url, *TRAIN]
    assert "4" in box.reelpack(["status", made.url], select, explain, plan)
    for extra, command in (
        ("curate", ["curate", str(made.films), "--out", "new", "--executor", "local"]),
        ("caption", ["caption", made.url]),
    ):
        assert f"pip install 'reelpack[{extra}]'" in box.reelpack(command, code=2)


def test_curate_scans_scores_cuts_and_reports(made: SimpleNamespace, tmp_path: Path) -> None:
    box = Box("curate", tmp_path)
    bounds = ["--set", "select.rules.short_side_px.min=16"]
    curate = ["curate", str(made.films), "--out", "new", "--executor", "local", *bounds]
    assert "in the index" in box.reelpack(curate, ["verify", "new", "--full"], ["report", "new"])
    assert "no picture" not in (tmp_path / "new/report/index.html").read_text()


def test_caption_writes_captions(made: SimpleNamespace, tmp_path: Path) -> None:
    box = Box("caption", tmp_path)
    model = write_checkpoint("llava", tmp_path / "model")
    settings = [
        "caption.short_max_tokens=4",
        "caption.dense_max_tokens=4",
        "caption.checks.truncated=null",  # random weights end no text
        f"caption.backend.model={model}",
        *(setting for setting in OVERRIDES if "language" not in setting),  # it imports a package of the extra
    ]
    box.reelpack(["caption", made.url, *(word for setting in settings for word in ("--set", setting))])


def test_export_chooses_clips_by_a_condition(made: SimpleNamespace, tmp_path: Path) -> None:
    box, some = Box("export", tmp_path), ["--where", "motion > 0"]
    box.reelpack(["export", made.url, "--out", "out", "--to", "hf", *some])
    push = ["export", made.url, "--out", "other", "--to", "hf", "--push", "hf://somebody/clips"]
    told = Box("", tmp_path / "bare").reelpack(push, code=2)
    assert "pip install 'reelpack[export]'" in told
    told = box.reelpack(["export", made.url, "--out", "third", "--to", "litdata"], code=2)
    assert "pip install 'reelpack[litdata]'" in told and not (tmp_path / "third").exists()


def test_train_trains_and_exports(trained: Path) -> None:
    assert (trained / "metrics.jsonl").is_file() and list((trained / "tensorboard").iterdir())
    assert (trained.parent / "exported/model.safetensors").is_file()


def test_finetune_trains_low_rank_updates(made: SimpleNamespace, trained: Path, tmp_path: Path) -> None:
    settings = [f"train.init={trained.parent / 'exported'}", "train.finetune.kind=lora", "train.finetune.rank=2"]
    train = ["train", made.url, "--out", "run", *TRAIN, *(word for one in settings for word in ("--set", one))]
    box = Box("train,finetune", tmp_path)
    box.reelpack(train, ["train-export", "run", "--lora", "updates.safetensors"])
    assert (tmp_path / "updates.safetensors").stat().st_size
    assert "pip install 'reelpack[finetune]'" in Box("train", tmp_path / "bare").reelpack(train, code=2)


def test_sample_begins_with_a_picture_and_needs_neither_ray_nor_what_trains_or_curates(
    trained: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (90, 70), "gray").save(tmp_path / "photo.png")
    given = ["--prompt", "a film", "--start", str(tmp_path / "photo.png")]
    Box("sample", tmp_path).reelpack(["sample", str(trained), *given, *SAMPLE])
    assert (tmp_path / "sample.mp4").stat().st_size
