"""The policy: stored scores in, a decision with its reasons out. Decodes nothing, so thresholds can be changed freely.

A rule bounds one column. A clip is *rejected* if a stored value breaks a rule, with the rule's name as the reason, or
if a better copy of it is kept (`duplicate`); *failed* if a step failed on it; *pending* if a rule's value is not there
yet; *kept* otherwise. A clip is never rejected for a value that nobody measured.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, model_validator

from curate.dedup.best import best
from curate.split import Split, SplitConfig, draw_splits

NOT_FOR_IMAGES = frozenset(
    {"duration_s", "motion", "camera_motion", "local_motion", "freeze_fraction", "flash_rate", "fade_fraction"}
)
"""Columns that a still image has no value for: their rules pass over images."""


class Bounds(BaseModel):
    """Closed interval that a value must lie in; a side left out does not bound."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _ordered(self) -> "Bounds":
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"got min {self.min} above max {self.max}: no value can pass")
        return self


class SelectConfig(BaseModel):
    """One rule per stored column. The defaults are conservative: they drop what no trainer wants."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    duration_s: Bounds = Field(Bounds(min=1.0), description="length of the clip, s")
    short_side_px: Bounds = Field(Bounds(min=64), description="shorter side of the picture, px")
    motion: Bounds = Field(Bounds(min=0.002), description="mean optical flow, short sides per second")
    camera_motion: Bounds = Field(Bounds(), description="the part of motion that is the camera's, same unit")
    local_motion: Bounds = Field(Bounds(), description="the part of motion that is not the camera's, same unit")
    sharpness: Bounds = Field(Bounds(), description="variance of the Laplacian of the small picture")
    luminance: Bounds = Field(Bounds(min=0.06, max=0.97), description="mean luma, 0 (black) to 1 (white)")
    black_fraction: Bounds = Field(Bounds(max=0.5), description="share of the frames that are black")
    freeze_fraction: Bounds = Field(Bounds(max=0.9), description="share of the time in which the picture stands still")
    flash_rate: Bounds = Field(
        Bounds(max=3.0), description="flashes per second; more than three are dangerous to look at (WCAG 2.3.1)"
    )
    fade_fraction: Bounds = Field(Bounds(max=0.5), description="share of the time in fades from or to black or white")
    interlaced_fraction: Bounds = Field(
        Bounds(), description="share of the frames that are interlaced; max 0 drops such clips, see also deinterlace"
    )
    letterbox_fraction: Bounds = Field(Bounds(max=0.05), description="share of the picture under constant dark bars")
    text_match: Bounds = Field(Bounds(), description="wanted minus unwanted descriptions, see curate/scores")
    brisque: Bounds = Field(Bounds(), description="lack of quality, about 0 (pristine) to 100 (badly distorted)")
    static_overlay: Bounds = Field(Bounds(), description="share of the picture under what stands still on it: logos")
    text_area: Bounds = Field(Bounds(), description="share of the picture under text, mean over the frames")
    text_area_max: Bounds = Field(Bounds(), description="likewise, of the frame that has most")
    nsfw: Bounds = Field(Bounds(), description="probability of pornography, 0 to 1")
    aesthetic: Bounds = Field(Bounds(), description="rating by your own head; its scorer is not a default")
    split: SplitConfig = SplitConfig()

    def rules(self) -> dict[str, Bounds]:
        """Column → bounds, in the order of declaration, for the rules that bound something."""
        bounds = {name: getattr(self, name) for name in type(self).model_fields if name != "split"}
        return {name: rule for name, rule in bounds.items() if rule.min is not None or rule.max is not None}


def decide(
    clips: pa.Table,
    config: SelectConfig,
    *,
    failed: Mapping[str, str] = MappingProxyType({}),
    unscored: Mapping[str, Collection[str]] = MappingProxyType({}),
    groups: Mapping[str, str] = MappingProxyType({}),
    cut: Mapping[str, Split] = MappingProxyType({}),
) -> pa.Table:
    """Append `split`, `decision` (keep | reject | pending | failed), `reasons`, `duplicate_group`, `duplicate_of`, and
    what another policy needs to know: `failed_step` and `unscored`, which a rejected clip may have as well.

    Args:
        clips: one row per clip: `clip_id`, `video_id`, `video_uri`, `kind`, a column per score (null = not measured).
        config: the policy.
        failed: clip id → the step that failed on it.
        unscored: clip id → columns that a scorer failed to give; the clip has failed if a rule asks for one of them.
        groups: clip id → duplicate group. Of a group's members that the rules keep, the best one is kept.
        cut: clip id → the split of the shard that it lies in, which it keeps.

    Raises:
        ValueError: a rule names a column that no step stores.
    """
    clip_ids = clips["clip_id"].to_pylist()
    broken_rules, missing = _judge(clips, config.rules())
    decisions, reasons = [], []
    for clip_id, rules, unknown in zip(clip_ids, broken_rules, missing, strict=True):
        if rules:
            outcome = ("reject", rules)
        elif clip_id in failed:
            outcome = ("failed", [failed[clip_id]])
        elif lost := [name for name in unknown if name in unscored.get(clip_id, ())]:
            outcome = ("failed", lost)
        elif unknown:
            outcome = ("pending", [f"{name}.missing" for name in unknown])
        else:
            outcome = ("keep", [])
        decisions.append(outcome[0])
        reasons.append(outcome[1])
    copy_of = _copies(clips, decisions, groups)
    for row, clip_id in enumerate(clip_ids):
        if clip_id in copy_of:
            decisions[row], reasons[row] = "reject", ["duplicate"]
    video_ids, uris = clips["video_id"].to_pylist(), clips["video_uri"].to_pylist()
    splits = draw_splits(clip_ids, video_ids, uris, groups, config.split, cut)
    columns: dict[str, pa.Array] = {
        "split": pa.array(splits, pa.string()),
        "decision": pa.array(decisions, pa.string()),
        "reasons": pa.array(reasons, pa.list_(pa.string())),
        "duplicate_group": pa.array([groups.get(clip_id) for clip_id in clip_ids], pa.string()),
        "duplicate_of": pa.array([copy_of.get(clip_id) for clip_id in clip_ids], pa.string()),
        "failed_step": pa.array([failed.get(clip_id) for clip_id in clip_ids], pa.string()),
        "unscored": pa.array([sorted(unscored.get(clip_id, ())) for clip_id in clip_ids], pa.list_(pa.string())),
    }
    for name, values in columns.items():
        clips = clips.append_column(name, values)
    return clips


def broken(values: Mapping[str, float | None], kind: str, config: SelectConfig) -> list[str]:
    """Names of the rules that a partly known clip already breaks: why `decide` will reject it, whatever comes.

    Args:
        values: column → value; columns that are not known yet are left out or None.
        kind: "video" or "image".
        config: the policy.
    """
    known = {name: pa.array([value], pa.float64()) for name, value in values.items() if value is not None}
    return broken_by(pa.table({"kind": pa.array([kind]), **known}), config)[0]


def broken_by(clips: pa.Table, config: SelectConfig) -> list[list[str]]:
    """`broken` for each row of a table with the column `kind` and those that are known."""
    return _judge(clips, {name: rule for name, rule in config.rules().items() if name in clips.column_names})[0]


def _judge(clips: pa.Table, rules: Mapping[str, Bounds]) -> tuple[list[list[str]], list[list[str]]]:
    """Per clip the rules that its values break, and the columns of rules that have no value."""
    breaks: list[list[str]] = [[] for _ in range(clips.num_rows)]
    missing: list[list[str]] = [[] for _ in range(clips.num_rows)]
    is_image = pc.equal(clips["kind"], "image")
    for name, bounds in rules.items():
        if name not in clips.column_names:
            raise ValueError(
                f"select.{name}: no step stores a score of that name; stored are {sorted(clips.column_names)}. "
                f"Configure the scorer that computes it, or remove the rule (select.{name}.min=null)"
            )
        values = clips[name]
        applies = pc.invert(is_image) if name in NOT_FOR_IMAGES else pa.scalar(True)
        _note(missing, pc.and_(pc.is_null(values), applies), name)
        if bounds.min is not None:
            _note(breaks, pc.and_(pc.less(values, bounds.min), applies), f"{name}.min")
        if bounds.max is not None:
            _note(breaks, pc.and_(pc.greater(values, bounds.max), applies), f"{name}.max")
    return breaks, missing


def _copies(clips: pa.Table, decisions: Sequence[str], groups: Mapping[str, str]) -> dict[str, str]:
    """Clip id → the better copy, for the kept clips that have one."""
    ids = clips["clip_id"].to_pylist()
    rows = [row for row, clip_id in enumerate(ids) if decisions[row] == "keep" and clip_id in groups]
    members: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for copy in clips.take(pa.array(rows, pa.int64())).to_pylist():
        members[groups[copy["clip_id"]]].append(copy)
    copy_of: dict[str, str] = {}
    for copies in members.values():
        kept = best(copies)
        copy_of |= {copy["clip_id"]: kept for copy in copies if copy["clip_id"] != kept}
    return copy_of


def funnel(decided: pa.Table) -> Mapping[str, int]:
    """How many clips each decision has, and under `reject:<first reason>` each rule that rejected first."""
    counts: dict[str, int] = {"clips": decided.num_rows}
    for decision, reasons in zip(decided["decision"].to_pylist(), decided["reasons"].to_pylist(), strict=True):
        counts[decision] = counts.get(decision, 0) + 1
        if decision == "reject":
            counts[f"reject:{reasons[0]}"] = counts.get(f"reject:{reasons[0]}", 0) + 1
    return counts


def _note(lists: list[list[str]], mask: pa.ChunkedArray, reason: str) -> None:
    for row in pc.indices_nonzero(pc.fill_null(mask, False)).to_pylist():
        lists[row].append(reason)
