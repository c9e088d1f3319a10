"""Which clips are held out from training: a function of ids, duplicate groups, and what lies in shards already."""

import fnmatch
import hashlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from curate.dedup.components import union

Split = Literal["train", "val"]


class SplitConfig(BaseModel):
    """Drawn by unit: all clips of a unit, and of the units that share duplicates with it, fall to the same side.

    For new clips only: what lies in a shard stays on its side, and so do later copies of it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    val_fraction: float = Field(0.02, ge=0, lt=1, description="expected share of the units that are held out")
    by: Literal["clip", "video"] = Field("clip", description="the unit of the draw; `video` holds out whole films")
    seed: int = 0
    hold_out: tuple[str, ...] = Field(
        (), description="globs of URIs: these sources, and all copies of their clips, are held out beside the draw"
    )


def draw_splits(
    clip_ids: Sequence[str],
    video_ids: Sequence[str],
    uris: Sequence[str],
    groups: Mapping[str, str],
    config: SplitConfig,
    cut: Mapping[str, Split] = MappingProxyType({}),
) -> list[Split]:
    """`train` or `val` of each clip, so that no copy of a training clip is held out.

    Nothing is drawn for clips that lie in a shard, nor for what falls to their side: a model may have been trained on
    them. Where both sides lie in shards (a new clip is a copy of two that were strangers), all is `train`: what was
    held out can be trained on, and what was trained on never held out.

    Args:
        clip_ids: `(N,)`.
        video_ids: `(N,)` the videos that the clips are of.
        uris: `(N,)` where these lie.
        groups: clip id → duplicate group.
        config: the draw.
        cut: clip id → the split of the shard that it lies in.
    """
    units = clip_ids if config.by == "clip" else video_ids
    # Ids are hexadecimal: a group's name sorts after them.
    joined = union(
        (unit, f"group:{groups[name]}") for name, unit in zip(clip_ids, units, strict=True) if name in groups
    )
    roots = [joined.get(unit, unit) for unit in units]
    sides: dict[str, Split] = {}
    for root, clip_id in zip(roots, clip_ids, strict=True):
        if clip_id in cut and sides.get(root) != "train":
            sides[root] = cut[clip_id]
    for root, uri in zip(roots, uris, strict=True):
        if is_held_out(uri, config):
            sides.setdefault(root, "val")
    return [sides.get(root) or split_of(root, config) for root in roots]


def is_held_out(uri: str, config: SplitConfig) -> bool:
    """Whether the configuration names a source as held out."""
    return any(fnmatch.fnmatchcase(uri, pattern) for pattern in config.hold_out)


def split_of(unit_id: str, config: SplitConfig) -> Split:
    """`val` for a fixed pseudo-random `val_fraction` of all ids; what it says of an id never changes."""
    digest = hashlib.sha256(f"{config.seed}:{unit_id}".encode()).digest()
    return "val" if int.from_bytes(digest[:8]) < config.val_fraction * 2**64 else "train"
