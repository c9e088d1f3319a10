"""A dataset of computed clips: shards, captions and an index, as `reelpack curate` and `caption` leave them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from caption.original import original_family, original_records
from caption.record import record_row
from curate.dataset.dataset import Dataset
from curate.dataset.schemas import INDEX
from curate.dataset.store import write_parquet
from curate.media.codecs import EncodeConfig
from curate.media.encode import encode_mp4
from curate.media.still import encode_png
from curate.shards.tar import Member, write_tar

COLUMN = "made"
QUALITY = EncodeConfig(crf=12)


class MadeClip(Protocol):
    """What a clip shows, and the caption that says so."""

    @property
    def clip_id(self) -> str: ...

    @property
    def split(self) -> str: ...

    @property
    def caption(self) -> str: ...

    def frames(self) -> np.ndarray:
        """(T, H, W, 3) uint8; of one frame it is an image."""
        ...


def write_made_clips(out: str, clips: Sequence[MadeClip], fps: int) -> None:
    """Write a dataset directory: a shard for each split, captions of level `short`, and the index.

    Args:
        out: the directory.
        clips: of the splits `train` and `val`.
        fps: frames per second of all videos.
    """
    dataset = Dataset(out)
    dataset.make()
    frames = {clip.clip_id: clip.frames() for clip in clips}
    members = [
        member
        for split in ("train", "val")
        for member in write_tar(
            f"{dataset.layout.shards}/{split}-000000.tar",
            ((clip.clip_id, _files(frames[clip.clip_id], fps)) for clip in clips if clip.split == split),
        )
    ]
    family = original_family(COLUMN)
    texts = original_records([clip.clip_id for clip in clips], [clip.caption for clip in clips], COLUMN)
    dataset.captions(family).publish([record_row(replace(record, level="short")) for record in texts])
    dataset.save_section("caption_family", family)
    shapes = {clip_id: rgb.shape for clip_id, rgb in frames.items()}
    write_parquet(dataset.layout.index, pa.Table.from_pylist(list(_rows(clips, shapes, members, fps)), INDEX))


def _files(rgb: np.ndarray, fps: int) -> dict[str, bytes]:
    return {"png": encode_png(rgb[0])} if len(rgb) == 1 else {"mp4": encode_mp4(rgb, fps, QUALITY)}


def _rows(
    clips: Iterable[MadeClip], shapes: dict[str, tuple[int, ...]], members: Iterable[Member], fps: int
) -> Iterator[dict[str, Any]]:
    placed = {member.key: member for member in members}
    for clip in clips:
        num_frames, height, width, _ = shapes[clip.clip_id]
        is_image, at = num_frames == 1, placed[clip.clip_id]
        yield {
            "clip_id": clip.clip_id,
            "video_id": clip.clip_id,
            "kind": "image" if is_image else "video",
            "split": clip.split,
            **{name: getattr(at, name) for name in ("shard", "ext", "offset", "size", "digest")},
            "num_frames": num_frames,
            "height": height,
            "width": width,
            "fps": float(fps),
            "duration_s": 0.0 if is_image else num_frames / fps,
            "caption_short": clip.caption,
        }
