"""Which clips are held out from training: a function of ids, duplicate groups, and the shards that exist."""

import fnmatch
import hashlib
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field

from curate.dedup.components import union

Split = Literal["train", "val"]


GROUP, CUT = "duplicate_group", "__cut_split"
KNOWN = ("train", "val", "held out", None)
"""What decides a split, the strongest first: the shard that has the clip, the configuration, the draw."""


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


class Draw:
    """Splits of clips that come in tables, one after the other. No copy of a training clip is held out.

    Clips that are already in a shard keep their split, because a model can have been trained on them. So do their
    duplicates. A new clip can be a copy of two unrelated clips with different splits: all three are `train` then.
    Clips that were held out can be trained on; clips that were trained on are never held out.

    The tables have `clip_id`, `video_id`, `video_uri`, `GROUP` and `CUT` (of the shard that holds the clip);
    the latter two can be null.
    """

    def __init__(self, config: SplitConfig) -> None:
        self._config, self._unit = config, "clip_id" if config.by == "clip" else "video_id"
        self._joins = set[tuple[str, str]]()
        self._known: dict[str, int] = {}
        self._splits: dict[str, Split] | None = None

    def see(self, clips: pa.Table) -> None:
        """Note what is known of units that several clips share, or their copies."""
        if self._config.by == "clip":
            clips = clips.filter(pc.is_valid(clips[GROUP]))
        columns = [self._unit, GROUP, CUT, "video_uri"]
        different = clips.group_by(columns).aggregate([]).select(columns)
        for unit, group, cut, uri in zip(*(column.to_pylist() for column in different.columns), strict=True):
            known = KNOWN.index(cut or ("held out" if is_held_out(uri, self._config) else None))
            self._known[unit] = min(self._known.get(unit, known), known)
            if group is not None:
                self._joins.add((unit, f"group:{group}"))  # ids are hexadecimal: a group's name sorts after them

    def of(self, clips: pa.Table) -> pa.Array:
        """(N,) the split of each clip, after all of them were seen."""
        if self._splits is None:
            self._splits = self._of_units()
        units, cut = clips[self._unit].combine_chunks(), clips[CUT].combine_chunks()
        if self._config.by == "video":
            codes = units.dictionary_encode()
            return pa.array([self._splits[name] for name in codes.dictionary.to_pylist()], cut.type).take(
                codes.indices
            )
        is_shared = clips[GROUP].combine_chunks().is_valid()
        shared = [self._splits[name] for name in units.filter(is_shared).to_pylist()]
        found = pc.replace_with_mask(cut, is_shared, pa.array(shared, cut.type))
        uris = [uri for uri in pc.unique(clips["video_uri"]).to_pylist() if is_held_out(uri, self._config)]
        is_held = pc.is_in(clips["video_uri"].combine_chunks(), pa.array(uris, clips["video_uri"].type))
        found = pc.coalesce(found, pc.if_else(is_held, pa.scalar("val", cut.type), None))
        drawn = [split_of(name, self._config) for name in units.filter(found.is_null()).to_pylist()]
        return pc.replace_with_mask(found, found.is_null(), pa.array(drawn, cut.type))

    def _of_units(self) -> dict[str, Split]:
        joined = union(self._joins)
        roots = {unit: joined.get(unit, unit) for unit in self._known}
        known: dict[str, int] = {}
        for unit, root in roots.items():
            known[root] = min(known.get(root, self._known[unit]), self._known[unit])
        sides: dict[str, Split] = {
            root: "train" if one == 0 else split_of(root, self._config) if KNOWN[one] is None else "val"
            for root, one in known.items()
        }
        return {unit: sides[root] for unit, root in roots.items()}


def is_held_out(uri: str, config: SplitConfig) -> bool:
    """Whether the configuration names a source as held out."""
    return any(fnmatch.fnmatchcase(uri, pattern) for pattern in config.hold_out)


def split_of(unit_id: str, config: SplitConfig) -> Split:
    """`val` for a pseudo-random `val_fraction` of all ids. The answer for an id never changes."""
    digest = hashlib.sha256(f"{config.seed}:{unit_id}".encode()).digest()
    return "val" if int.from_bytes(digest[:8]) < config.val_fraction * 2**64 else "train"
