"""Which clips are held out from training: a pure function of ids and duplicate groups."""

import fnmatch
import hashlib
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Split = Literal["train", "val"]


class SplitConfig(BaseModel):
    """Drawn by unit: all clips of a unit, and of the units that share duplicates with it, fall to the same side."""

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
) -> list[Split]:
    """`train` or `val` of each clip, so that no copy of a training clip is held out.

    Args:
        clip_ids: `(N,)`.
        video_ids: `(N,)` the videos that the clips are of.
        uris: `(N,)` where these lie.
        groups: clip id → duplicate group.
        config: the draw.
    """
    units = clip_ids if config.by == "clip" else video_ids
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while (above := parent.setdefault(name, name)) != name:
            parent[name] = name = parent[above]
        return name

    for clip_id, unit in zip(clip_ids, units, strict=True):
        one, other = root(unit), root(f"group:{groups[clip_id]}" if clip_id in groups else unit)
        parent[max(one, other)] = min(one, other)  # ids are hexadecimal: a group's name sorts after them
    roots = [root(unit) for unit in units]
    held_out = {
        name
        for name, uri in zip(roots, uris, strict=True)
        if any(fnmatch.fnmatchcase(uri, pattern) for pattern in config.hold_out)
    }
    drawn: dict[str, Split] = {name: "val" if name in held_out else split_of(name, config) for name in set(roots)}
    return [drawn[name] for name in roots]


def split_of(unit_id: str, config: SplitConfig) -> Split:
    """`val` for a fixed pseudo-random `val_fraction` of all ids; what it says of an id never changes."""
    digest = hashlib.sha256(f"{config.seed}:{unit_id}".encode()).digest()
    return "val" if int.from_bytes(digest[:8]) < config.val_fraction * 2**64 else "train"
