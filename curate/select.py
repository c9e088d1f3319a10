"""The policy: stored scores in, a decision with its reasons out. It decodes nothing: thresholds change at no cost.

A rule judges one column (`curate.rules`). A clip is *rejected* if a stored value breaks a rule, with the column and
the side as the reason, or if a better copy of it is kept (`duplicate`); *failed* if a step failed on it; *pending* if
a value that a rule requires is not there yet; *kept* otherwise. A clip is never rejected for a value that was not
measured.
"""

import difflib
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, field_validator

from curate.columns import COLUMNS, default_rules
from curate.dedup.balance import CLUSTER
from curate.dedup.config import BalanceConfig
from curate.policy import FAILED, UNSCORED, Policy, applies_to_images, broken_masks, looked_up, reasons_of
from curate.rules import Rule
from curate.scores.config import SCORERS
from curate.split import CUT, GROUP, Split, SplitConfig


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


BALANCE = BalanceConfig()


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
    clusters: Mapping[str, int] = MappingProxyType({}),
    balance: BalanceConfig = BALANCE,
) -> pa.Table:
    """Append `split`, `decision` (keep | reject | pending | failed), `reasons`, `duplicate_group`, `duplicate_of` and
    `balance_weight`.

    `failed_step` and `unscored` are appended for other policies; a rejected clip can have them as well.

    Args:
        clips: one row per clip: `clip_id`, `video_id`, `video_uri`, `kind`, a column per score (null = not measured).
        config: the policy.
        failed: clip id → the step that failed on it.
        unscored: clip id → columns that a scorer failed to give; the clip has failed if a rule asks for one of them.
        groups: clip id → duplicate group. The best one of the members that the rules keep is kept.
        cut: clip id → split of the shard that contains it. The clip keeps this split.
        clusters: clip id → number of its cluster. A kept clip without one weighs 1.
        balance: the weights of clusters.

    Raises:
        ValueError: a rule names a column that is not there, or one of another type; see `SelectConfig.rules_for`.
    """
    rules = config.rules_for(dict(zip(clips.column_names, clips.schema.types, strict=True)))
    lists = {name: sorted(columns) for name, columns in unscored.items()}
    known = {GROUP: groups, FAILED: failed, CUT: cut, UNSCORED: lists, CLUSTER: clusters}
    kinds = {UNSCORED: pa.list_(pa.string()), CLUSTER: pa.int32()}
    for name, values in known.items():
        clips = clips.append_column(name, looked_up(clips["clip_id"], values, kinds.get(name, pa.string())))
    policy = Policy(absolute(rules, clips), config.split, balance)
    policy.see(clips)
    return policy.decided(clips)


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
    rules = {name: rule for name, rule in config.rules.items() if name in clips.column_names}
    found: list[list[str]] = reasons_of(broken_masks(clips, rules), clips.num_rows).to_pylist()
    return found


def funnel(decided: pa.Table) -> Mapping[str, int]:
    """How many clips each decision has, and under `reject:<first reason>` each rule that rejected first."""
    counts: dict[str, int] = {"clips": decided.num_rows}
    first = pc.list_element(decided["reasons"].filter(pc.equal(decided["decision"], "reject")), 0)
    for one, prefix in ((decided["decision"], ""), (first, "reject:")):
        counts |= {f"{prefix}{row['values']}": row["counts"] for row in pc.value_counts(one).to_pylist()}
    return counts
