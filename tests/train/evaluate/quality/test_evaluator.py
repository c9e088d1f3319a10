"""Quality of samples while a run trains: logged, the same each time and on any number of ranks."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.latents import add_latents
from tests.train.test_loop import config, logged, on_ranks
from train.autoencoder.config import EncodeConfig
from train.autoencoder.encode import EncodeStage
from train.loop import train
from train.run.config import ParallelConfig

DISTANCE = "fd_efficientnet_lite0_2"
FRAMES = {"kind": "frames", "num_frames": 2}
QUALITY = {"num_samples": 9, "num_steps": 2, "max_training": 4, "num_bootstrap": 20, "num_permutations": 99}
QUALITY |= {"features": [FRAMES], "num_text_frames": 1}


@pytest.fixture
def decodable(make_dataset: Callable, make_clips: Callable) -> str:
    """A dataset whose latents are said to be the embedded autoencoder's; 10 of its held-out clips are videos with a
    caption."""
    record = EncodeStage(EncodeConfig(windows="middle"), "").fingerprint_record()
    copies = record["channels"] // 4
    clips = [replace(clip, latent=np.tile(clip.latent, (copies, 1, 1, 1))) for clip in make_clips(28, num_val=18)]
    root = make_dataset(clips)
    (root / "latents/lat0/fingerprint.json").write_text(json.dumps(record | {"fingerprint": "lat0"}))
    return str(root)


def settings(**changes: object):
    """Packs of few tokens: there are several for each rank."""
    given = QUALITY | {"every": 2} | changes
    named = {f"evaluate__quality__{name}": value for name, value in given.items()}
    return config(steps=2, data__plan__token_budget=64, **named)


def test_figures_are_logged_with_their_intervals(decodable: str, tmp_path: Path) -> None:
    train(settings(), decodable, tmp_path)
    (row,) = [row for row in logged(tmp_path) if "quality_intervals" in row]
    names = {DISTANCE, f"{DISTANCE}_kernel", "text_match_conse", "motion", "flicker", "nearest", "nearest_share"}
    assert {f"quality_{name}" for name in names} <= set(row)
    ends = row["quality_intervals"][DISTANCE]
    assert 0 < ends["low"] < row[f"quality_{DISTANCE}"] < ends["high"]
    assert 0 < row["quality_text_match_conse_p_value"] <= 1 and row["quality_nearest"] > 0


@pytest.mark.slow
def test_sharded_ranks_measure_what_one_does(decodable: str, tmp_path: Path) -> None:
    one = train(settings(text=[]), decodable, tmp_path / "one").evaluated_last
    sharded = settings(text=[]).model_copy(update={"parallel": ParallelConfig(mode="fsdp")})
    (two,) = [row for row in on_ranks(2, sharded, decodable, tmp_path / "two") if "quality_intervals" in row]
    for name in (f"quality_{DISTANCE}", "quality_motion", "quality_nearest"):
        assert two[name] == pytest.approx(one[name], rel=1e-2)


def test_what_cannot_be_measured_is_said_before_the_first_step(decodable: str, tmp_path: Path) -> None:
    absent = settings(features=[{"kind": "i3d", "path": "nowhere.pt"}])
    with pytest.raises(ValueError, match=r"train\.evaluate\.quality: .*nowhere\.pt is no file.*quality\.every=0"):
        train(absent, decodable, tmp_path)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_a_clip_of_several_sizes_is_one(make_dataset: Callable, make_clips: Callable, tmp_path: Path) -> None:
    dataset = make_dataset(make_clips(20, num_val=6))
    add_latents(dataset, "half", lambda latent: latent[:, :, ::2, ::2])
    add_latents(dataset, "third", lambda latent: latent[:, :, ::2, ::2])
    given = settings()
    given = given.model_copy(update={"data": given.data.model_copy(update={"latents": "all"})})
    with pytest.raises(ValueError, match=r"got [1-6] held-out clips to compare with, expected at least 8"):
        train(given, str(dataset), tmp_path)


def test_too_few_held_out_clips_are_said(dataset: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"got \d held-out clips to compare with, expected at least 8; hold more"):
        train(settings(), dataset, tmp_path)
