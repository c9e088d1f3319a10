"""Clips of shapes in a shard, and a small model: made once."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.shapes import shape_clips, small_open_clip
from train.clip.config import TrainClipConfig
from train.clip.loop import ClipRun, Row
from train.clip.model import ClipModel
from train.clip.pairs import CaptionedClip, FrameReader, Pairs
from train.distributed.ranks import RankGrid
from train.run.spool import Spool

ALONE = RankGrid(rank=0, world_size=1, device=torch.device("cpu"))


@dataclass(frozen=True, kw_only=True)
class Made:
    """Attributes:
    shards: Folder of the clips.
    model: A `local-dir:` with random weights.
    clips: Of each of 32 captions three that train and one that is held out.
    """

    shards: Path
    model: Path
    clips: Sequence[CaptionedClip]

    def config(self, **settings: Any) -> TrainClipConfig:
        given = {"init": {"model": f"local-dir:{self.model}"}, "device": "cpu", "num_frames": 2, "chunk_size": None}
        return TrainClipConfig(**{**given, "batch_size": 24, "epochs": 1, "lr": 0.01, **settings})

    def run(
        self, out: Path, config: TrainClipConfig, clips: Sequence[CaptionedClip] | None = None, **options: Any
    ) -> tuple[list[Row], ClipModel]:
        """Train to the end: the rows of metrics, and the model."""
        out.mkdir(exist_ok=True)
        model = ClipModel(config, ALONE.device)
        pairs = Pairs(self.clips if clips is None else clips, config.levels)
        with Spool(out, writes=True) as spool:
            run = ClipRun(out, config, model, pairs, ALONE, spool, **options)
            return run.train(self.frames(config), out / "vectors"), model

    def frames(self, config: TrainClipConfig) -> FrameReader:
        return FrameReader(str(self.shards), config.num_frames, config.short_side_px)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("shapes")
    return Made(shards=folder, model=small_open_clip(folder / "model"), clips=shape_clips(folder, 3))
