"""A dataset of videos in shards, encoded and captioned: a colored square drifts over gray."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from caption.original import original_family, original_records
from caption.record import record_row
from curate.dataset.dataset import Dataset
from curate.dataset.schemas import INDEX
from curate.dataset.store import write_parquet
from curate.media.codecs import EncodeConfig
from curate.media.encode import encode_mp4
from curate.schema import content_digest
from curate.shards.tar import Member, write_tar
from pipelines.config import load_config
from pipelines.drivers.encode import encode

FPS, FRAMES, HEIGHT, WIDTH = 12, 9, 32, 48
COLORS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 80, 220)}


@dataclass(frozen=True)
class Drifting:
    """A clip by its number."""

    number: int
    split: str

    @property
    def clip_id(self) -> str:
        return content_digest("drifting", str(self.number))

    @property
    def color(self) -> str:
        return list(COLORS)[self.number % len(COLORS)]

    @property
    def caption(self) -> str:
        return f"a {self.color} square at height {self.number}"

    def frames(self) -> np.ndarray:
        """(T, H, W, 3) uint8."""
        rgb = np.full((FRAMES, HEIGHT, WIDTH, 3), 60 + 5 * self.number, np.uint8)
        for t, frame in enumerate(rgb):
            top, left = self.number % (HEIGHT - 10), 4 + 3 * t
            frame[top : top + 10, left : left + 10] = COLORS[self.color]
        return rgb


def make_drifting(out: Path, num_train: int, num_val: int) -> list[Drifting]:
    """Write it."""
    clips = [Drifting(i, "train" if i < num_train else "val") for i in range(num_train + num_val)]
    dataset = Dataset(str(out))
    dataset.make()
    members = [
        member
        for split in ("train", "val")
        for member in write_tar(
            f"{dataset.layout.shards}/{split}-000000.tar", (_sample(clip) for clip in clips if clip.split == split)
        )
    ]
    family = original_family("made")
    texts = original_records([clip.clip_id for clip in clips], [clip.caption for clip in clips], "made")
    dataset.captions(family).publish([record_row(replace(record, level="short")) for record in texts])
    dataset.save_section("caption_family", family)
    write_parquet(dataset.layout.index, pa.Table.from_pylist(list(_rows(clips, members)), INDEX))
    encode(str(out), load_config(None, ["execute.executor=local", "encode.windows=middle"]))
    return clips


def _sample(clip: Drifting) -> tuple[str, dict[str, bytes]]:
    return clip.clip_id, {"mp4": encode_mp4(clip.frames(), FPS, EncodeConfig(crf=12))}


def _rows(clips: Iterable[Drifting], members: Iterable[Member]) -> Iterable[dict[str, Any]]:
    placed = {member.key: member for member in members}
    for clip in clips:
        at = placed[clip.clip_id]
        yield {
            "clip_id": clip.clip_id,
            "video_id": clip.clip_id,
            "kind": "video",
            "split": clip.split,
            **{name: getattr(at, name) for name in ("shard", "ext", "offset", "size", "digest")},
            "num_frames": FRAMES,
            "height": HEIGHT,
            "width": WIDTH,
            "fps": float(FPS),
            "duration_s": FRAMES / FPS,
            "caption_short": clip.caption,
        }
