"""Which clips are held out from training: a function of ids, duplicate groups, and the shards that exist."""

import fnmatch
import hashlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from curate.dedup.components import union

Split = Literal["train", "val"]


class SplitConfig(BaseModel):
    """Drawn by unit: all clips of a unit, and of the units that share duplicates with it, get the same split.

    Clips that are already in a shard keep their split. So do their duplicates.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    val_fraction: float = Field(0.02, ge=0, lt=1, description="expected share of the units that are held out")
    by: Literal["clip", "video"] = Field("clip", description="the unit of the draw; `video` holds out whole videos")
    seed: int = 0
    hold_out: tuple[str, ...] = Field(
        (),
        description="globs of URIs: these sources, and all copies of their clips, are held out as well",
    )


def draw_splits(
    clip_ids: Sequence[str],
    video_ids: Sequence[str],
    uris: Sequence[str],
    groups: Mapping[str, str],
    config: SplitConfig,
    cut: Mapping[str, Split] = MappingProxyType({}),
) -> list[Split]:
    """`train` or `val` for each clip. No copy of a training clip is held out.

    Clips that are already in a shard keep their split, because a model can have been trained on them. So do their
    duplicates. A new clip can be a copy of two unrelated clips with different splits: all three are `train` then.
    Clips that were held out can be trained on; clips that were trained on are never held out.

    Args:
        clip_ids: `(N,)`.
        video_ids: `(N,)`, each clip's video.
        uris: `(N,)`, each video's URI.
        groups: clip id → duplicate group.
        config: the draw.
        cut: clip id → split of the shard that contains it.
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
    """`val` for a pseudo-random `val_fraction` of all ids. The answer for an id never changes."""
    digest = hashlib.sha256(f"{config.seed}:{unit_id}".encode()).digest()
    return "val" if int.from_bytes(digest[:8]) < config.val_fraction * 2**64 else "train"
