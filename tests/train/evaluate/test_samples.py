"""Samples while a run trains: written, the same each time, and what the held-out clips ask for."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from curate.media.decode import decode_clip
from tests.train.test_loop import config, on_ranks
from train.autoencoder.config import EncodeConfig
from train.autoencoder.encode import EncodeStage
from train.loop import train

SAMPLED = {"every": 3, "num_samples": 3, "num_steps": 4}


@pytest.fixture
def decodable(make_dataset: Callable, make_clips: Callable) -> str:
    """A dataset whose latents are said to be the embedded autoencoder's."""
    record = EncodeStage(EncodeConfig(windows="middle"), "").fingerprint_record()
    copies = record["channels"] // 4
    clips = [replace(clip, latent=np.tile(clip.latent, (copies, 1, 1, 1))) for clip in make_clips(16, num_val=6)]
    root = make_dataset(clips)
    (root / "latents/lat0/fingerprint.json").write_text(json.dumps(record | {"fingerprint": "lat0"}))
    return str(root)


def test_samples_of_held_out_captions_are_written_with_their_prompts(decodable: str, tmp_path: Path):
    settings = config(steps=5, **{f"evaluate__samples__{name}": value for name, value in SAMPLED.items()})
    train(settings, decodable, tmp_path / "run")
    folders = sorted((tmp_path / "run/samples").iterdir())
    assert [folder.name for folder in folders] == ["step-000003", "step-000005"]
    for folder in folders:
        files = sorted(path for path in folder.iterdir() if path.suffix != ".json")
        assert len(files) == 3 and {path.suffix for path in files} == {".mp4", ".png"}
        for path in files:
            facts = json.loads(path.with_suffix(".json").read_text())
            assert facts["prompt"] and facts["step"] == int(folder.name[5:])
            frames = decode_clip(path.read_bytes(), num_frames=1).rgb
            assert min(frames.shape[1:3]) >= 32 and frames.std() > 1
    boards = list((tmp_path / "run/tensorboard").iterdir())
    assert b"samples" in boards[0].read_bytes() and b"PNG" in boards[0].read_bytes()
    train(settings, decodable, tmp_path / "again")
    for path in (tmp_path / "run/samples").rglob("*.*"):
        assert (
            path.read_bytes() == (tmp_path / "again/samples" / path.relative_to(tmp_path / "run/samples")).read_bytes()
        )


def test_clips_without_captions_are_sampled_under_the_null_caption(decodable: str, tmp_path: Path):
    shutil.rmtree(Path(decodable) / "text")
    settings = config(steps=2, data__text="none", evaluate__samples__every=2, evaluate__samples__num_steps=2)
    train(settings, decodable, tmp_path / "run")
    prompts = [json.loads(path.read_text())["prompt"] for path in (tmp_path / "run/samples").rglob("*.json")]
    assert len(prompts) == 4


def test_sampling_leaves_training_as_it_is(decodable: str, tmp_path: Path):
    with_samples = {f"evaluate__samples__{name}": value for name, value in SAMPLED.items()}
    plain = train(config(steps=5), decodable, tmp_path / "plain")
    sampled = train(config(steps=5, **with_samples), decodable, tmp_path / "sampled")
    assert (plain.train_loss_last, plain.evaluated_last) == (sampled.train_loss_last, sampled.evaluated_last)


@pytest.mark.slow
def test_sharded_ranks_sample_what_one_does(decodable: str, tmp_path: Path):
    with_samples = {f"evaluate__samples__{name}": value for name, value in SAMPLED.items()}
    settings = config(steps=3, **with_samples, data__plan__token_budget=64, parallel__mode="fsdp")
    train(settings, decodable, tmp_path / "one")
    on_ranks(2, settings, decodable, tmp_path / "two")
    one, two = (
        [
            decode_clip(path.read_bytes()).rgb.astype(int)
            for path in sorted((tmp_path / run).rglob("samples/*/*.[mp]*"))
        ]
        for run in ("one", "two")
    )
    assert len(one) == 3
    assert max(np.abs(a - b).max() for a, b in zip(one, two, strict=True)) <= 8  # mp4 of almost equal pictures


def test_without_the_autoencoder_the_run_does_not_begin(dataset: str, tmp_path: Path):
    with pytest.raises(ValueError, match=r"set train\.evaluate\.samples\.every=0"):
        train(config(evaluate__samples__every=3), dataset, tmp_path)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_nothing_to_sample_is_said(
    make_dataset: Callable, make_clips: Callable, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    clips = [
        replace(clip, short=None, dense=None) if clip.split == "val" else clip for clip in make_clips(16, num_val=4)
    ]
    settings = config(steps=1, **{f"evaluate__samples__{name}": value for name, value in SAMPLED.items()})
    train(settings, str(make_dataset(clips)), tmp_path / "run")
    assert "no held-out clip has an embedded caption: nothing is sampled" in caplog.text
    assert not (tmp_path / "run/samples").exists()
