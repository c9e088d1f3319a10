"""What judges say of reconstructions: means over frames, and rFVD over clips that are long enough."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.video_networks import write_i3d, write_videomae
from train.autoencoder.perceptual.config import FeaturesConfig
from train.autoencoder.perceptual.judges import FRAMES, Judgement, Judges, judges_of
from train.evaluate.frechet import Gaussian, frechet_distance
from train.evaluate.video_features.config import I3DConfig, VideoMAEConfig

CPU = torch.device("cpu")


class Difference:
    """Mean absolute difference of frames; at most `FRAMES` of them at a time."""

    name, min_side_px = "difference", 8

    def __call__(self, frames: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        assert frames.shape == others.shape and len(frames) <= FRAMES
        return (frames - others).abs().mean((1, 2, 3))


def clip(seed: int, num_frames: int = 12, side: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (num_frames, side, side, 3), np.uint8)


def test_a_distance_is_the_mean_over_all_frames() -> None:
    judgement = Judgement(Judges(frames=[Difference()]))
    source, decoded = clip(0, 19), clip(1, 19)
    wanted = np.abs(source.astype(float) - decoded).mean() / 127.5
    assert judgement.add(source, decoded) == {"difference": pytest.approx(wanted, rel=1e-5)}
    assert judgement.add(source, source) == {"difference": 0}
    assert judgement.add(clip(0, side=4), clip(1, side=4)) == {} and judgement.frechet() == {}


def test_rfvd_is_of_the_first_frames_of_clips_that_are_long_enough(tmp_path: Path) -> None:
    i3d = I3DConfig(path=str(write_i3d(tmp_path / "tiny.pt")), num_frames=10)
    mae = VideoMAEConfig(path=str(write_videomae(tmp_path / "mae")))
    judges = judges_of([], [i3d, mae, i3d], CPU)
    judgement = Judgement(judges)
    pairs = [(clip(seed, 12), clip(seed + 100, 12)) for seed in range(4)]
    for source, decoded in pairs:
        judgement.add(source, decoded)
    judgement.add(clip(7, 5), clip(8, 5))
    found = judgement.frechet()
    assert found["rfvd_tiny_10_clips"] == 4 and found["rfvd_videomae_mae_clips"] == 5
    network = judges.videos[0]
    sets = [
        Gaussian.of(network(torch.from_numpy(np.stack([c[:10] for c in part])))) for part in zip(*pairs, strict=True)
    ]
    assert found["rfvd_tiny_10"] == pytest.approx(frechet_distance(*sets), rel=1e-3)


def test_equal_clips_have_no_rfvd_and_one_clip_has_none(tmp_path: Path) -> None:
    judges = judges_of([], [I3DConfig(path=str(write_i3d(tmp_path / "tiny.pt")), num_frames=10)], CPU)
    one = Judgement(judges)
    one.add(clip(0), clip(1))
    assert one.frechet() == {}
    same = Judgement(judges)
    for seed in range(3):
        same.add(clip(seed), clip(seed))
    assert same.frechet()["rfvd_tiny_10"] == pytest.approx(0, abs=1e-6)


def test_equal_settings_load_a_network_once() -> None:
    assert len(judges_of([FeaturesConfig(), FeaturesConfig()], [], CPU).frames) == 1
