"""The policy: stored scores in, a decision with its reasons out. It decodes nothing: thresholds change at no cost.

A rule judges one column (`curate.rules`). A clip is *rejected* if a stored value breaks a rule, with the column and
the side as the reason, or if a better copy of it is kept (`duplicate`); *failed* if a step failed on it; *pending* if
a value that a rule requires is not there yet; *kept* otherwise. A clip is never rejected for a value that was not
measured.
"""

import difflib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, field_validator

from curate.columns import COLUMNS, default_rules
from curate.dedup.best import best
from curate.rules import BOUNDS, SETS, Rule
from curate.scores.config import SCORERS
from curate.split import Split, SplitConfig, draw_splits


class SelectConfig(BaseModel):
    """The rules that every kept clip passes, and which clips are held out from training."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rules: Mapping[str, Rule] = Field(
        default_factory=default_rules,
        description="by column: a fact, signal, score or a column of your own; null removes a default rule",
    )
    split: SplitConfig = SplitConfig()

    @field_validator("rules", mode="before")
    @classmethod
    def _without_removed(cls, rules: Any) -> Any:
        """`null` and a rule without a side both rule nothing, so they are not kept."""
        if not isinstance(rules, Mapping):
            return rules
        return {name: rule for name, rule in rules.items() if rule is not None}

    @field_validator("rules", mode="after")
    @classmethod
    def _in_order(cls, rules: Mapping[str, Rule]) -> dict[str, Rule]:
        """In the order of declaration, then the user's own columns by name: the order of a clip's reasons."""
        order = {name: position for position, name in enumerate(COLUMNS)}
        bounding = {name: rule for name, rule in rules.items() if rule.sides}
        return dict(sorted(bounding.items(), key=lambda item: (order.get(item[0], len(order)), item[0])))

    def rules_for(self, columns: Mapping[str, pa.DataType]) -> dict[str, Rule]:
        """Column → rule, over these columns.

        A default rule is left out where its column is not computed.

        Raises:
            ValueError: a rule of the user names no column, or cannot judge values of its type.
        """
        defaults = default_rules()
        known = {name: rule for name, rule in self.rules.items() if name in columns or rule != defaults.get(name)}
        for name, rule in known.items():
            if name not in columns:
                raise ValueError(_unknown(name, columns))
            if why := rule.mismatch(columns[name]):
                raise ValueError(f"select.rules.{name}: {why}")
        return known


def absolute(rules: Mapping[str, Rule], clips: pa.Table) -> dict[str, Rule]:
    """The rules with what their relative bounds come to over these clips, kept or not: all that have a value,
    without still images where a rule is not for them."""
    bounded = dict(rules)
    for name, rule in rules.items():
        if rule.relative and name in clips.column_names:
            counted = clips if applies_to_images(name) else clips.filter(pc.not_equal(clips["kind"], "image"))
            bounded[name] = rule.absolute(counted[name])
    return bounded


def _unknown(name: str, columns: Iterable[str]) -> str:
    said = f"select.rules.{name}: no column of that name"
    if name in COLUMNS:
        scorer = next((one.model_fields["kind"].default for one in SCORERS if name in one.columns), name)
        return f"{said} is computed: switch on score.scorers.{scorer}, or remove the rule (select.rules.{name}=null)"
    if nearest := difflib.get_close_matches(name, columns, n=1):
        return f"{said}; the nearest one is {nearest[0]}"
    return f"{said}; there are {', '.join(sorted(columns))}"


def decide(
    clips: pa.Table,
    config: SelectConfig,
    *,
    failed: Mapping[str, str] = MappingProxyType({}),
    unscored: Mapping[str, Collection[str]] = MappingProxyType({}),
    groups: Mapping[str, str] = MappingProxyType({}),
    cut: Mapping[str, Split] = MappingProxyType({}),
) -> pa.Table:
    """Append `split`, `decision` (keep | reject | pending | failed), `reasons`, `duplicate_group` and `duplicate_of`.

    `failed_step` and `unscored` are appended for other policies; a rejected clip can have them as well.

    Args:
        clips: one row per clip: `clip_id`, `video_id`, `video_uri`, `kind`, a column per score (null = not measured).
        config: the policy.
        failed: clip id → the step that failed on it.
        unscored: clip id → columns that a scorer failed to give; the clip has failed if a rule asks for one of them.
        groups: clip id → duplicate group. The best one of the members that the rules keep is kept.
        cut: clip id → split of the shard that contains it. The clip keeps this split.

    Raises:
        ValueError: a rule names a column that is not there, or one of another type; see `SelectConfig.rules_for`.
    """
    clip_ids = clips["clip_id"].to_pylist()
    rules = absolute(config.rules_for(dict(zip(clips.column_names, clips.schema.types, strict=True))), clips)
    broken_rules, missing = _judge(clips, rules)
    decisions, reasons = [], []
    for clip_id, broken_of, unknown in zip(clip_ids, broken_rules, missing, strict=True):
        if broken_of:
            outcome = ("reject", broken_of)
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


def broken(values: Mapping[str, Any], kind: str, config: SelectConfig) -> list[str]:
    """Names of the rules that a partly known clip already breaks. `decide` rejects it for any other values. What a
    relative bound comes to is not known before all clips are.

    Args:
        values: column → value; columns that are not known yet are left out or None.
        kind: "video" or "image".
        config: the policy.
    """
    known = {name: pa.array([value]) for name, value in values.items() if value is not None}
    return broken_by(pa.table({"kind": pa.array([kind]), **known}), config)[0]


def broken_by(clips: pa.Table, config: SelectConfig) -> list[list[str]]:
    """`broken` for each row of a table with the column `kind` and those that are known."""
    return _judge(clips, {name: rule for name, rule in config.rules.items() if name in clips.column_names})[0]


def applies_to_images(name: str) -> bool:
    """Whether still images have a value in a column; the user's own columns have one for every file."""
    return name not in COLUMNS or COLUMNS[name].for_images


def is_required(name: str) -> bool:
    """Whether a clip waits for its value in a column that a rule judges."""
    return name not in COLUMNS or COLUMNS[name].is_required


def _judge(clips: pa.Table, rules: Mapping[str, Rule]) -> tuple[list[list[str]], list[list[str]]]:
    """Per clip the rules that its values break, and the required columns of rules that have no value."""
    breaks: list[list[str]] = [[] for _ in range(clips.num_rows)]
    missing: list[list[str]] = [[] for _ in range(clips.num_rows)]
    is_image = pc.equal(clips["kind"], "image")
    for name in filter(is_required, rules):
        applies = pa.scalar(True) if applies_to_images(name) else pc.invert(is_image)
        _note(missing, pc.and_(pc.is_null(clips[name]), applies), name)
    for sides in (BOUNDS, SETS):  # the reasons name bounds before sets
        for name, rule in rules.items():
            applies = pa.scalar(True) if applies_to_images(name) else pc.invert(is_image)
            for side, mask in rule.broken_sides(clips[name], sides).items():
                _note(breaks, pc.and_(mask, applies), f"{name}.{side}")
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
