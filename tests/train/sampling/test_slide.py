"""Videos longer than a run was trained on: drawn in windows, the same on both sides of a seam."""

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.train.test_loop import config as tiny
from train.autoencoder.pixels import decode_latent, encode_frames, in_unit_range
from train.loop import train
from train.sampling.config import SampleConfig
from train.sampling.given import Given
from train.sampling.given_files import GivenFiles
from train.sampling.loaded import LoadedRun
from train.sampling.request import Request
from train.sampling.sample import sample
from train.sampling.slide import Slide, draw_windows, plan_slide

ASKED = Request(prompt="", width=32, height=32, num_frames=27, seed=3)
SAMPLING = SampleConfig(num_steps=2, device="cpu")


class Blocks:
    """Mean colors of 4 frames x 8 x 8 pixels, the first frame alone, and a channel of zeros."""

    channels, temporal_stride, spatial_stride, device = 4, 4, 8, torch.device("cpu")
    name = fingerprint = "blocks"
    codebook, part_frames, has_posterior, is_causal = None, None, False, True

    def encode(self, video: Tensor) -> Tensor:
        pooled = F.avg_pool2d(video[0].transpose(0, 1), 8).transpose(0, 1)  # (3, T, h, w)
        first, rest = pooled[:, :1], pooled[:, 1:].unflatten(1, (-1, 4)).mean(2)
        latent = torch.cat([first, rest], dim=1)
        return torch.cat([latent, torch.zeros_like(latent[:1])])

    def encode_parts(self, parts: Iterable[Tensor], *, moments: bool = False) -> Tensor:
        return self.encode(in_unit_range(torch.cat(list(parts), dim=2)))[None]

    def decode(self, latent: Tensor) -> Tensor:
        frames = torch.cat([latent[:3, :1], latent[:3, 1:].repeat_interleave(4, dim=1)], dim=1)
        return F.interpolate(frames.transpose(0, 1), scale_factor=8.0).transpose(0, 1)[None].clamp(-1, 1)


@pytest.fixture(scope="module")
def run(dataset: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained on latents of 4 frames, 13 of the video, and to continue them from 1 or 2."""
    out = tmp_path_factory.mktemp("slide") / "run"
    tasks = [{"kind": "first_frames", "max_frames": 2}, {"kind": "unconditional"}]
    data = {"tasks": tasks, "plan": {"token_budget": 64, "packs_per_step": 1}}
    train(tiny(steps=2, data=data, evaluate={"held_out": {"every": 0}, "captions": {"every": 0}}), dataset, out)
    return out


def test_a_window_continues_the_last_frames_and_leaves_them_as_they_are(run: Path):
    loaded = LoadedRun(run, SAMPLING)
    slide = plan_slide(ASKED, SAMPLING, loaded.config, loaded.record)
    assert slide == Slide(num_frames=27, window=13, overlap=5) and slide.num_windows == 3
    asked = [replace(ASKED, num_frames=13), replace(ASKED, num_frames=13, seed=8)]
    videos = [rgb for _, _, rgb in draw_windows(loaded, asked, SAMPLING, slide, Blocks())]
    expected: list[np.ndarray] = []
    start = Given()
    for part in range(3):
        [one] = sample(run, [replace(asked[0], part=part, given=start)], SAMPLING)
        rgb = decode_latent(Blocks(), one.latent)
        expected.append(rgb if part == 0 else rgb[5:])
        start = Given(start=encode_frames(Blocks(), iter(np.concatenate(expected)[-5:]), 5))
    assert [len(rgb) for rgb in videos] == [27, 27] and not np.array_equal(*videos)
    assert np.abs(videos[0].astype(int) - np.concatenate(expected)[:27]).max() <= 1  # rounding of another pack
    assert np.array_equal(videos[0][:13], decode_latent(Blocks(), sample(run, asked[:1], SAMPLING)[0].latent))


def test_what_cannot_be_continued_is_told(run: Path, caplog: pytest.LogCaptureFixture):
    loaded = LoadedRun(run, SAMPLING)
    config, record = loaded.config, loaded.record
    assert plan_slide(replace(ASKED, num_frames=13), SAMPLING, config, record) is None
    shorter = SAMPLING.model_copy(update={"window_frames": 9})
    assert plan_slide(ASKED, shorter, config, record) == Slide(num_frames=27, window=9, overlap=1)
    with pytest.raises(ValueError, match=r"nearest .* are 9 frames"):
        plan_slide(ASKED, shorter.model_copy(update={"window_frames": 10}), config, record)
    plain = config.model_copy(update={"data": config.data.model_copy(update={"tasks": config.data.tasks[1:]})})
    with pytest.raises(ValueError, match=r"window_frames=9: .*no task that continues"):
        plan_slide(ASKED, shorter, plain, record)
    with caplog.at_level(logging.WARNING):
        assert plan_slide(ASKED, SAMPLING, plain, record) is None
    assert "27 frames are more than any training sample has" in caplog.text
    slide = Slide(num_frames=27, window=13, overlap=5)
    with pytest.raises(ValueError, match="at most 13 frames, or give a start alone"):
        slide.check_given(GivenFiles(start=Path("a.png"), loop=True))
    slide.check_given(GivenFiles(video=Path("a.mp4"), extend="forward"))
