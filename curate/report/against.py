"""Another decision, laid over the report: that of a version of the dataset, or of another dataset.

Clips are the same where their ids are: the same bytes, cut at the same frames.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.dataset import Dataset
from curate.dataset.versions import Version, decided_in
from curate.report.columns import pack_column, pack_numbers
from curate.report.data import DatasetView, read_clips, rules_given
from curate.report.explorer import DECISIONS, columns_of, sampled, stride_of
from curate.rules import Rule

KEEP = 0
NOT_THERE = -1
Differing = Literal["any", "here", "there", "absent"]
"""Which clips are meant: decided differently, kept only here, kept only there, not there at all."""
Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Against:
    """The clips of a report beside another decision.

    Attributes:
        view: The dataset of the report: `here`.
        key: Names the other decision in the address: number of a version, or the other dataset.
        name: For people.
        clips: `clip_id`, `decision`, `reasons` and `duration_s` of the other; of a dataset its scores, too.
        rules: Its policy, as it was given.
        settings: Its settings that are others here, such as `select.rules.motion.min=0.01`.
        is_dataset: It has scores of its own. A version has those of the view.
    """

    view: DatasetView
    key: str
    name: str
    clips: pa.Table
    rules: Mapping[str, Rule]
    settings: Sequence[str]
    is_dataset: bool

    @cached_property
    def codes(self) -> npt.NDArray[np.int8]:
        """`(N,)` how the other decides each clip of the view: its place in `DECISIONS`, or `NOT_THERE`."""
        at = pc.index_in(self.view.clips["clip_id"], self.clips["clip_id"].combine_chunks())
        return _codes(self.clips["decision"].take(at))

    @cached_property
    def masks(self) -> Mapping[Differing, npt.NDArray[np.bool_]]:
        """`(N,)` which clips of the view are meant."""
        here, there = _codes(self.view.clips["decision"]), self.codes
        return {
            "any": (there != here) & (there != NOT_THERE),
            "here": (here == KEEP) & (there != KEEP),
            "there": (here != KEEP) & (there == KEEP),
            "absent": there == NOT_THERE,
        }

    @cached_property
    def beyond(self) -> pa.Table:
        """Clips of the other that the view does not have."""
        is_known = pc.is_in(self.clips["clip_id"], self.view.clips["clip_id"].combine_chunks())
        return self.clips.filter(pc.invert(is_known))

    def rows(self, clip_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Clip id → `clip_id`, `decision` and `reasons` of the other, for those that it has."""
        table = self.clips.select(["clip_id", "decision", "reasons"])
        found = table.filter(pc.is_in(table["clip_id"], pa.array(list(clip_ids), pa.string())))
        return {row["clip_id"]: row for row in found.to_pylist()}


def against_version(view: DatasetView, version: Version, settings: Sequence[str]) -> Against:
    """Beside a version of the same dataset, over the scores as they are now."""
    return Against(
        view=view,
        key=str(version.number),
        name=f"version {version.number}",
        clips=decided_in(Dataset(view.url), version.number),
        rules=rules_given(version.settings),
        settings=settings,
        is_dataset=False,
    )


def against_dataset(view: DatasetView, other: Dataset, settings: Sequence[str]) -> Against:
    """Beside another dataset.

    Raises:
        ValueError: nothing was curated into it.
    """
    return Against(
        view=view,
        key=other.url,
        name=other.url.rpartition("/")[2],
        clips=read_clips(other),
        rules=rules_given(other.sections().get("curate", {})),
        settings=settings,
        is_dataset=True,
    )


def packed(against: Against) -> dict[str, Any]:
    """What explorer.js lays over its panels and its list, for the clips that the page holds."""
    codes = against.codes[:: stride_of(against.view.clips)]
    found: dict[str, Any] = {
        "key": against.key,
        "name": against.name,
        "decisions": pack_numbers(codes),
        "columns": None,
    }
    if against.is_dataset:
        theirs = sampled(against.clips)
        shown = [name for name in columns_of(against.view) if name in theirs.column_names]
        found["columns"] = {name: pack_column(theirs[name]) for name in shown}
        found["kept"] = pack_numbers((_codes(theirs["decision"]) == KEEP).astype(np.int8))
    return found


def _codes(decisions: pa.ChunkedArray) -> npt.NDArray[np.int8]:
    found = pc.fill_null(pc.index_in(decisions, DECISIONS), NOT_THERE)
    return np.asarray(found).astype(np.int8)
