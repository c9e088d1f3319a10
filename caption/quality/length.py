"""Texts that are too short or too long for their level."""

from collections.abc import Iterator
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from caption.quality.base import Check, Evidence, Remedies
from caption.quality.prose import ProseCheck
from caption.quality.words import words
from caption.record import CaptionRecord, Finding, Remedy
from curate.dataset.captions import CaptionStatus


class LengthConfig(BaseModel):
    """Finds texts outside the lengths of their level."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    short_min_words: int = Field(2, ge=1, description="of a short caption, words")
    short_max_words: int = Field(40, ge=1, description="of a short caption, words")
    dense_min_words: int = Field(3, ge=1, description="of a dense caption, words; raise it for larger models")
    dense_max_words: int = Field(400, ge=1, description="of a dense caption, words")

    @model_validator(mode="after")
    def _in_order(self) -> "LengthConfig":
        for level in ("short", "dense"):
            low, high = self.bounds(level)
            if low > high:
                raise ValueError(f"got {level}_min_words={low} above {level}_max_words={high}; expected at most that")
        return self

    def bounds(self, level: str) -> tuple[int, int]:
        if level == "short":
            return self.short_min_words, self.short_max_words
        return self.dense_min_words, self.dense_max_words

    def build(self) -> Check:
        return LengthCheck(self)


class LengthCheck(ProseCheck):
    """`too_short`, `too_long`: told how many words."""

    remedies: ClassVar[Remedies] = {"too_short": (Remedy.PROMPT,), "too_long": (Remedy.PROMPT,)}

    def __init__(self, config: LengthConfig) -> None:
        self.config = config

    def of_text(self, text: str, record: CaptionRecord, evidence: Evidence) -> Iterator[Finding]:
        low, high = self.config.bounds(record.level)
        num_words = len(words(text))
        if num_words < low:
            code, bound, side, limit = "too_short", "least", "<", low
        elif num_words > high:
            code, bound, side, limit = "too_long", "most", ">", high
        else:
            return
        yield Finding(
            code=code,
            status=CaptionStatus.REJECTED,
            detail=f"a {record.level} caption has another length (words {num_words} {side} {limit})",
            remedy=Remedy.PROMPT,
            instruction=f"Write at {bound} {limit} words.",
        )
