"""The decision on clips that come in tables, one after the other: a few bytes of each are kept meanwhile.

A policy sees all clips, then decides each: the best of several copies, and splits, depend on all of them.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.columns import COLUMNS
from curate.dedup.balance import CLUSTER, cluster_weights
from curate.dedup.best import KNOWN, best
from curate.dedup.config import BalanceConfig
from curate.rules import BOUNDS, SETS, Rule
from curate.split import CUT, GROUP, Draw, SplitConfig

FAILED, UNSCORED = "failed_step", "unscored"
DECIDED = ("split", "decision", "reasons", GROUP, "duplicate_of", FAILED, UNSCORED, "balance_weight")
"""Columns of a decision, in their order."""
KEEP, REJECT, FAIL, PEND = DECISIONS = ("keep", "reject", "failed", "pending")
LIST = pa.list_(pa.string())  # Parquet names the items of a list otherwise
COPY = "duplicate"
"""The reason of a clip that has a better copy."""


class Policy:
    """Judges clips by rules, finds the best of their copies, draws their splits and weighs them.

    Args:
        rules: of columns that the clips have, without relative bounds.
        split: which clips are held out.
        balance: the weights of clusters.
    """

    def __init__(self, rules: Mapping[str, Rule], split: SplitConfig, balance: BalanceConfig) -> None:
        self.rules, self._draw, self._balance = rules, Draw(split), balance
        self._sizes = np.zeros(0, np.int64)
        self._copies: list[dict[str, Any]] = []
        self._better: tuple[pa.Array, pa.Array] | None = None
        self._weights = pa.array([], pa.float64())

    @property
    def columns(self) -> list[str]:
        """What `see` reads."""
        named = ["clip_id", "kind", "video_id", "video_uri", GROUP, CUT, FAILED, UNSCORED, CLUSTER]
        return list(dict.fromkeys([*named, *self.rules, *KNOWN]))

    def see(self, clips: pa.Table) -> None:
        """Note the copies, the sizes of clusters, and what splits depend on.

        Args:
            clips: `columns`, of those of `KNOWN` the ones that there are. `GROUP`, `CUT`, `CLUSTER` and `FAILED`
                are null where there is none, `UNSCORED` also empty.
        """
        self._draw.see(clips)
        kept = clips.filter(pa.array(_outcomes(clips, self.rules)[0] == DECISIONS.index(KEEP)))
        self._count(clips[CLUSTER].drop_null().to_numpy(), 0)  # clusters of which none is kept have a place, too
        self._count(kept[CLUSTER].drop_null().to_numpy(), 1)
        copies = kept.filter(pc.is_valid(kept[GROUP]))
        self._copies += copies.select([GROUP, CLUSTER, *(n for n in KNOWN if n in clips.column_names)]).to_pylist()

    def _count(self, clusters: np.ndarray, sign: int) -> None:
        counts = np.bincount(clusters, minlength=len(self._sizes))
        self._sizes = np.pad(self._sizes, (0, len(counts) - len(self._sizes))) + sign * counts

    def _close(self) -> tuple[pa.Array, pa.Array]:
        """Ids of the clips that have a better copy, and those of the copies, after all were seen."""
        members = defaultdict[str, list[dict[str, Any]]](list)
        for copy in self._copies:
            members[copy[GROUP]].append(copy)
        better: dict[str, str] = {}
        clusters = list[int]()
        for group in members.values():
            kept = best(group)
            others = [copy for copy in group if copy["clip_id"] != kept]
            better |= {copy["clip_id"]: kept for copy in others}
            clusters += [copy[CLUSTER] for copy in others if copy[CLUSTER] is not None]
        self._count(np.array(clusters, int), -1)
        self._weights = pa.array(cluster_weights(self._sizes, self._balance), pa.float64())
        return pa.array(list(better), pa.string()), pa.array(list(better.values()), pa.string())

    def decided(self, clips: pa.Table) -> pa.Table:
        """Some of the clips that `see` was shown, with `DECIDED` behind their own columns."""
        if self._better is None:
            self._better = self._close()
        numbers, reasons = _outcomes(clips, self.rules)
        better = self._better[1].take(pc.index_in(clips["clip_id"].combine_chunks(), self._better[0]))
        is_copy = better.is_valid()
        numbers = np.where(_mask(is_copy), DECISIONS.index(REJECT), numbers)
        weights = pc.fill_null(self._weights.take(clips[CLUSTER].combine_chunks()), 1.0)
        found = {
            "split": self._draw.of(clips),
            "decision": pa.array(DECISIONS, pa.string()).take(pa.array(numbers)),
            "reasons": pc.if_else(is_copy, pa.scalar([COPY], reasons.type), reasons),
            GROUP: clips[GROUP],
            "duplicate_of": better,
            FAILED: clips[FAILED],
            UNSCORED: pc.coalesce(clips[UNSCORED].cast(LIST), pa.scalar([], LIST)),
            "balance_weight": pc.if_else(pa.array(numbers == DECISIONS.index(KEEP)), weights, None),
        }
        clips = clips.drop_columns([CUT, CLUSTER, GROUP, FAILED, UNSCORED])
        for name in DECIDED:
            clips = clips.append_column(name, found[name])
        return clips


def looked_up(ids: pa.ChunkedArray, found: Mapping[str, Any], kind: pa.DataType) -> pa.ChunkedArray:
    """The value of each id, null where there is none."""
    rows = pc.index_in(ids, pa.array(list(found), ids.type))
    return pa.chunked_array([pa.array(list(found.values()), kind)]).take(rows)


def applies_to_images(name: str) -> bool:
    """Whether still images have a value in a column; the user's own columns have one for every file."""
    return name not in COLUMNS or COLUMNS[name].for_images


def is_required(name: str) -> bool:
    """Whether a clip waits for its value in a column that a rule judges."""
    return name not in COLUMNS or COLUMNS[name].is_required


Masks = list[tuple[str, np.ndarray]]
"""Reasons, each with the rows (N,) bool that have it."""


def broken_masks(clips: pa.Table, rules: Mapping[str, Rule]) -> Masks:
    """The rows whose values break a rule, for each of its sides: bounds, then sets."""
    return [
        (f"{name}.{side}", _mask(mask) & _applies(clips, name))
        for sides in (BOUNDS, SETS)
        for name, rule in rules.items()
        for side, mask in rule.broken_sides(clips[name], sides).items()
    ]


def reasons_of(masks: Masks, num_rows: int) -> pa.ListArray:
    """(N,) lists of reasons, in their order."""
    matrix = np.stack([mask for _, mask in masks] or [np.zeros(num_rows, bool)], 1)
    rows, numbers = np.nonzero(matrix)
    ends = np.concatenate([[0], np.bincount(rows, minlength=num_rows).cumsum()])
    names = pa.array([name for name, _ in masks], pa.string())
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), names.take(pa.array(numbers)))


def _outcomes(clips: pa.Table, rules: Mapping[str, Rule]) -> tuple[np.ndarray, pa.ListArray]:
    """(N,) numbers of `DECISIONS`, before copies, and the reasons."""
    missing = [(name, _mask(pc.is_null(clips[name])) & _applies(clips, name)) for name in rules if is_required(name)]
    steps = pc.unique(clips[FAILED]).drop_null().to_pylist()
    stages: list[tuple[str, Masks]] = [
        (REJECT, broken_masks(clips, rules)),
        (FAIL, [(step, _mask(pc.equal(clips[FAILED], step))) for step in steps]),
        (FAIL, [(name, mask & _names(clips[UNSCORED], name)) for name, mask in missing if mask.any()]),
        (PEND, [(f"{name}.missing", mask) for name, mask in missing]),
    ]
    decisions, is_open, told = np.zeros(clips.num_rows, np.int8), np.ones(clips.num_rows, bool), Masks()
    for decision, masks in stages:  # the first that says anything of a clip decides
        told += [(reason, mask & is_open) for reason, mask in masks]
        hit = np.logical_or.reduce([mask for _, mask in masks] or [~is_open]) & is_open
        decisions[hit] = DECISIONS.index(decision)
        is_open &= ~hit
    return decisions, reasons_of(told, clips.num_rows)


def _applies(clips: pa.Table, name: str) -> np.ndarray | bool:
    return applies_to_images(name) or ~_mask(pc.equal(clips["kind"], "image"))


def _names(lists: pa.ChunkedArray, name: str) -> np.ndarray:
    """(N,) bool: whether a list has the name."""
    return _mask(Rule(not_in=(name,)).broken_sides(lists)["not_in"])


def _mask(found: pa.Array | pa.ChunkedArray) -> np.ndarray:
    return np.asarray(pc.fill_null(found, False))
