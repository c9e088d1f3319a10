"""Repetition loops: characters, phrases or sentences that come again and again."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from caption.quality.base import Check, Evidence, Remedies
from caption.quality.words import normalized, sentences, words
from caption.record import CaptionRecord, Finding, Remedy
from curate.dataset.captions import CaptionStatus

MAX_PHRASE_WORDS = 40
LONG_PHRASE_WORDS = 4
"""Of a phrase this long, fewer repeats are a loop: shorter ones are repeated for emphasis ("no, no, no")."""

MIN_SENTENCE_WORDS = 3
MIN_WORDS = 24
"""Shorter texts have too few runs of words for a share of distinct ones."""

NUM_CHARACTERS = 7
"""Further copies of a run of characters, of 1 to 6."""

CHARACTERS = re.compile(rf"(\S{{1,6}}?)\1{{{NUM_CHARACTERS},}}")


class RepetitionConfig(BaseModel):
    """Finds texts that repeat themselves."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_in_row: int = Field(3, ge=1, description="times that a phrase of 1 to 3 words can come in a row")
    max_long_in_row: int = Field(2, ge=1, description="the same of phrases of 4 words and more")
    max_sentence: int = Field(2, ge=1, description="times that a sentence of 3 words and more can come anywhere")
    min_distinct: float = Field(
        0.5, ge=0, le=1, description="least share of distinct runs of 3 words, of texts of 24 words and more"
    )

    def build(self) -> Check:
        return RepetitionCheck(self)


class RepetitionCheck(Check):
    """`repetition`: what was written becomes less likely."""

    remedies: ClassVar[Remedies] = {"repetition": (Remedy.PENALTY,)}

    def __init__(self, config: RepetitionConfig) -> None:
        self.config = config

    def of_caption(self, record: CaptionRecord, evidence: Evidence) -> Iterator[Finding]:
        if record.level in ("short", "dense", "fields") and (found := self._loop(record.text)):
            detail = f"the text repeats itself ({found})"
            yield Finding(code="repetition", status=CaptionStatus.REJECTED, detail=detail, remedy=Remedy.PENALTY)

    def _loop(self, text: str) -> str | None:
        if found := CHARACTERS.search(text):
            return f"{found[1]!r} {len(found[0]) // len(found[1])} times"
        text_words = words(text)
        for length in range(1, min(MAX_PHRASE_WORDS, len(text_words) // 2) + 1):
            most = self.config.max_in_row if length < LONG_PHRASE_WORDS else self.config.max_long_in_row
            if (repeated := _repeated(text_words, length, most)) is not None:
                return f"{' '.join(text_words[repeated : repeated + length])!r} more than {most} times in a row"
        counts = Counter(
            filter(lambda one: one.count(" ") >= MIN_SENTENCE_WORDS - 1, map(normalized, sentences(text)))
        )
        if counts and counts.most_common(1)[0][1] > self.config.max_sentence:
            sentence, times = counts.most_common(1)[0]
            return f"{sentence!r} {times} times"
        runs = list(zip(text_words, text_words[1:], text_words[2:], strict=False))
        if len(text_words) >= MIN_WORDS and len(set(runs)) < self.config.min_distinct * len(runs):
            return f"distinct runs of 3 words {len(set(runs)) / len(runs):.2f} < {self.config.min_distinct:g}"
        return None


def _repeated(text_words: Sequence[str], length: int, most: int) -> int | None:
    """Where a phrase of `length` words begins that comes more than `most` times in a row."""
    equal = 0
    for place in range(length, len(text_words)):
        equal = equal + 1 if text_words[place] == text_words[place - length] else 0
        if equal >= length * most:
            return place - equal - length + 1
    return None
