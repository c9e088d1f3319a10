"""The user's own prompts, sampled while a run trains."""

import json
from pathlib import Path
from typing import Any

import pytest

from curate.media.decode import decode_clip
from curate.report.run import build_run_report
from tests.support.tiny_run import SETTINGS, tiny_dataset
from train.evaluate.config import SamplesConfig
from train.loop import train
from train.run.config import TrainConfig


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_dataset(tmp_path_factory.mktemp("own") / "dataset"))


def settings(**samples: Any) -> TrainConfig:
    evaluate = SETTINGS["evaluate"] | {"samples": {"every": 1, "num_samples": 1, "num_steps": 1, **samples}}
    return TrainConfig.model_validate(SETTINGS | {"evaluate": evaluate})


def test_own_prompts_are_sampled_beside_held_out_captions(encoded: str, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("\ufeffa red disc\n\n a blue square \n")
    train(settings(prompts=str(tmp_path / "mine.txt"), size="48x32", num_frames=5), encoded, tmp_path / "run")
    steps = sorted((tmp_path / "run/samples").iterdir())
    assert [step.name for step in steps] == ["step-000001", "step-000002"]
    shown = {}
    for step in steps:
        assert len([path for path in step.glob("0*.*") if path.suffix != ".json"]) == 1
        for number, prompt in enumerate(("a red disc", "a blue square")):
            path = step / f"prompt-{number:02d}.mp4"
            assert json.loads(path.with_suffix(".json").read_text())["prompt"] == prompt
            shown[step.name, number] = decode_clip(path.read_bytes()).rgb
            assert shown[step.name, number].shape == (5, 32, 48, 3)
    assert (shown["step-000001", 0] != shown["step-000001", 1]).any()
    [board] = (tmp_path / "run/tensorboard").iterdir()
    assert b"prompts" in board.read_bytes()
    page = Path(build_run_report(str(tmp_path / "run"))).read_text()
    assert page.count("a red disc") >= 1 and "a blue square" in page and "own prompts" in page


def test_a_list_is_sampled_at_the_size_of_most_held_out_clips(encoded: str, tmp_path: Path) -> None:
    train(settings(prompts=["a disc"]), encoded, tmp_path / "run")
    files = [path for path in (tmp_path / "run/samples").rglob("prompt-00.*") if path.suffix != ".json"]
    assert len(files) == 2 and all(min(decode_clip(path.read_bytes()).rgb.shape[1:3]) >= 32 for path in files)


def test_without_held_out_clips_own_prompts_have_the_size_of_most_training_clips(tmp_path: Path) -> None:
    dataset = tiny_dataset(tmp_path / "dataset", num_val=0)
    train(settings(prompts=["a disc"], every=2), str(dataset), tmp_path / "run")
    [file] = [path for path in (tmp_path / "run/samples").rglob("prompt-00.*") if path.suffix != ".json"]
    assert min(decode_clip(file.read_bytes()).rgb.shape[1:3]) >= 32


def test_prompts_that_cannot_be_sampled_end_the_run_before_its_first_step(encoded: str, tmp_path: Path) -> None:
    without = settings(prompts=["a"]).model_dump()
    without["model"]["text"] = "none"
    (tmp_path / "empty.txt").write_text("\n")
    for config, said in (
        (settings(prompts="nowhere.txt"), r"nowhere\.txt cannot be read"),
        (settings(prompts="mine.jsonl"), r"mine\.jsonl is a list with columns; expected a text file"),
        (settings(prompts=str(tmp_path / "empty.txt")), "has no prompt"),
        (settings(prompts=["a"], size="50x32"), "nearest that this run"),
        (TrainConfig.model_validate(without), "trained without captions"),
    ):
        with pytest.raises(ValueError, match=said):
            train(config, encoded, tmp_path / "run")
    assert not (tmp_path / "run/metrics.jsonl").exists()
    with pytest.raises(ValueError, match="size"):
        SamplesConfig(size="big")
