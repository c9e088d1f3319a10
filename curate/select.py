"""The policy: stored scores in, a decision with its reasons out. Decodes nothing, so thresholds can be changed freely.

A rule bounds one column. A clip is *rejected* if a stored value breaks a rule, with the rule's name as the reason;
*failed* if a step failed on it; *pending* if a rule's value is not there yet; *kept* otherwise. A clip is never
rejected for a value that nobody measured.
"""

import fnmatch
import hashlib
from collections.abc import Collection, Mapping
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, model_validator

NOT_FOR_IMAGES = frozenset({"duration_s", "motion", "freeze_fraction"})
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


class SplitConfig(BaseModel):
    """Which clips are held out from training. A pure function of ids, so it never changes as data is added."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    val_fraction: float = Field(0.02, ge=0, lt=1, description="expected share of the units that are held out")
    by: Literal["clip", "video"] = Field("clip", description="the unit of the draw; `video` holds out whole films")
    seed: int = 0
    hold_out: tuple[str, ...] = Field(
        (), description="globs of URIs: these sources are held out whole, beside the draw"
    )


class SelectConfig(BaseModel):
    """One rule per stored column. The defaults are conservative: they drop what no trainer wants."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    duration_s: Bounds = Field(Bounds(min=1.0), description="length of the clip, s")
    short_side_px: Bounds = Field(Bounds(min=64), description="shorter side of the picture, px")
    motion: Bounds = Field(Bounds(min=0.002), description="mean optical flow, short sides per second")
    sharpness: Bounds = Field(Bounds(), description="variance of the Laplacian of the small picture")
    luminance: Bounds = Field(Bounds(min=0.06, max=0.97), description="mean luma, 0 (black) to 1 (white)")
    black_fraction: Bounds = Field(Bounds(max=0.5), description="share of the frames that are black")
    freeze_fraction: Bounds = Field(Bounds(max=0.9), description="share of the time in which the picture stands still")
    letterbox_fraction: Bounds = Field(Bounds(max=0.05), description="share of the picture under constant dark bars")
    text_match: Bounds = Field(Bounds(), description="wanted minus unwanted descriptions, see curate/scores")
    split: SplitConfig = SplitConfig()

    def rules(self) -> dict[str, Bounds]:
        """Column → bounds, in the order of declaration, for the rules that bound something."""
        bounds = {name: getattr(self, name) for name in type(self).model_fields if name != "split"}
        return {name: rule for name, rule in bounds.items() if rule.min is not None or rule.max is not None}


def decide(clips: pa.Table, failed: Collection[str], config: SelectConfig) -> pa.Table:
    """Append `split`, `decision` (keep | reject | pending | failed) and `reasons` to the rows of `clips`.

    Args:
        clips: one row per clip: `clip_id`, `video_id`, `video_uri`, `kind`, a column per score (null = not measured).
        failed: ids of clips that a step failed on.
        config: the policy.

    Raises:
        ValueError: a rule names a column that no step stores.
    """
    broken: list[list[str]] = [[] for _ in range(clips.num_rows)]
    missing: list[list[str]] = [[] for _ in range(clips.num_rows)]
    is_image = pc.equal(clips["kind"], "image")
    for name, bounds in config.rules().items():
        if name not in clips.column_names:
            raise ValueError(
                f"select.{name}: no step stores a score of that name; stored are {sorted(clips.column_names)}. "
                f"Configure the scorer that computes it, or remove the rule (select.{name}.min=null)"
            )
        values = clips[name]
        applies = pc.invert(is_image) if name in NOT_FOR_IMAGES else pa.scalar(True)
        _note(missing, pc.and_(pc.is_null(values), applies), name)
        if bounds.min is not None:
            _note(broken, pc.and_(pc.less(values, bounds.min), applies), f"{name}.min")
        if bounds.max is not None:
            _note(broken, pc.and_(pc.greater(values, bounds.max), applies), f"{name}.max")
    decisions, reasons = [], []
    for clip_id, rules, unknown in zip(clips["clip_id"].to_pylist(), broken, missing, strict=True):
        if rules:
            outcome = ("reject", rules)
        elif clip_id in failed:
            outcome = ("failed", ["failed"])
        elif unknown:
            outcome = ("pending", [f"{name}.missing" for name in unknown])
        else:
            outcome = ("keep", [])
        decisions.append(outcome[0])
        reasons.append(outcome[1])
    unit = "video_id" if config.split.by == "video" else "clip_id"
    units = zip(clips[unit].to_pylist(), clips["video_uri"].to_pylist(), strict=True)
    splits = [split_of(name, uri, config.split) for name, uri in units]
    return (
        clips.append_column("split", pa.array(splits, pa.string()))
        .append_column("decision", pa.array(decisions, pa.string()))
        .append_column("reasons", pa.array(reasons, pa.list_(pa.string())))
    )


def split_of(unit_id: str, uri: str, config: SplitConfig) -> Literal["train", "val"]:
    """`val` for the sources that are held out, and for a fixed pseudo-random `val_fraction` of all ids."""
    if any(fnmatch.fnmatchcase(uri, pattern) for pattern in config.hold_out):
        return "val"
    digest = hashlib.sha256(f"{config.seed}:{unit_id}".encode()).digest()
    return "val" if int.from_bytes(digest[:8]) < config.val_fraction * 2**64 else "train"


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
