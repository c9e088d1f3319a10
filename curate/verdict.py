"""What a rule says of one value: the words of `explain` and of the cards in the report."""

from typing import Any, Literal

from curate.policy import applies_to_images, is_required
from curate.rules import Rule

Verdict = Literal["passes", "fails", "missing", ""]


def rule_for(name: str, rule: Rule | None, *, is_image: bool) -> Rule | None:
    """The rule where it judges clips of this kind; None where it does not."""
    return rule if not is_image or applies_to_images(name) else None


def verdict(name: str, value: Any, rule: Rule | None) -> Verdict:
    """Empty where no rule judges the column."""
    if rule is None:
        return ""
    if value is None:
        return "missing" if is_required(name) else "passes"
    return "fails" if rule.breaks(value) else "passes"
