"""Which faults the checks of captions find, and where they find faults that are none."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from caption.quality.base import Check
from caption.quality.config import ChecksConfig
from tests.support.caption_faults import Case, good, injected, written

MIN_PRECISION, MIN_RECALL = 0.95, 0.9
OVERLAPS = {
    ("boilerplate", "medium_contradicted"): "a text that begins with the wrong medium begins with a medium",
    ("boilerplate", "shots_contradicted"): "the same of a text that begins with several shots",
    ("boilerplate", "leak"): "thoughts begin like an answer",
    ("invented_name", "wrong_language"): "German nouns have capitals",
    ("wrong_language", "repetition"): "a looped word of another script",
    ("invented_number", "leak"): "the prompt's numbers",
    ("unfinished", "repetition"): "a loop that the token limit ends stops in a sentence",
    ("unfinished", "leak"): "a control token stands after the full stop",
    ("too_short", "repetition"): "a loop of characters is one word",
}
"""(Code that is found, code of the fault): both are true."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """Of a reason code: faults, those found, and texts without the fault in which it was found."""

    num: int
    found: int
    wrong: int

    @property
    def recall(self) -> float:
        return self.found / self.num

    @property
    def precision(self) -> float:
        return self.found / max(1, self.found + self.wrong)

    @property
    def passes(self) -> bool:
        return self.precision >= MIN_PRECISION and self.recall >= MIN_RECALL


def codes_of(checks: Iterable[Check], one: Case) -> set[str]:
    """Reason codes of a caption."""
    return {finding.code for check in checks for finding in check.of_caption(one.record, one.evidence)}


def confusion(half: str, good_too: Sequence[Case]) -> dict[str, Score]:
    """Reason code → score, of the checks of single captions that are on by default. `good_too` are good as well."""
    checks = ready(ChecksConfig().build())
    num: Counter[str] = Counter()
    found: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for one in (*good(half), *good_too, *written(half)):
        codes = codes_of(checks, one)
        wrong.update(code for code in codes if code != one.code and (code, one.code) not in OVERLAPS)
        if one.code:
            num[one.code] += 1
            found[one.code] += one.code in codes
    for one in injected(half):
        assert one.code
        num[one.code] += 1
        found[one.code] += one.code in codes_of(checks, one)
    return {code: Score(num=num[code], found=found[code], wrong=wrong[code]) for code in sorted(num)}


def ready(checks: Iterable[Check]) -> list[Check]:
    """Set up."""
    kept = list(checks)
    for check in kept:
        check.setup()
    return kept
