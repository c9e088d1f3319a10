"""Captions that end at the token limit, or in the middle of a sentence."""

import re
from collections.abc import Iterator
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from caption.quality.base import Check, Evidence, Remedies
from caption.quality.prose import PROSE
from caption.quality.words import sentences, words
from caption.record import CaptionRecord, Finding, Remedy
from curate.dataset.captions import CaptionStatus

ENDED = re.compile(r"[.!?…。！？][\"'”’»)\]*]*$")
MIN_WORDS = 8
"""Of a dense caption that begins with a capital and must end with a full stop."""

DANGLING_WORDS = """
    a an the and or but nor with without of to at in on for from by into onto behind towards toward between under over
    through near as than while because if which who whose whom that where when is are was were has have had its his her
    their very some several another each every
"""
DANGLING = frozenset(DANGLING_WORDS.split())
"""Words that no sentence ends with."""


class TruncatedConfig(BaseModel):
    """Finds captions that the token limit cuts off, and captions that stop within a sentence."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    use: bool = Field(False, description="use the text of those that every attempt cuts off")

    def build(self) -> Check:
        return TruncatedCheck(self)


class TruncatedCheck(Check):
    """`truncated`: more tokens. `unfinished`: the model itself stops within a sentence, so another text is sampled."""

    remedies: ClassVar[Remedies] = {"truncated": (Remedy.TOKENS,), "unfinished": (Remedy.SEED,)}

    def __init__(self, config: TruncatedConfig) -> None:
        self.config = config

    def of_caption(self, record: CaptionRecord, evidence: Evidence) -> Iterator[Finding]:
        status = CaptionStatus.OK if self.config.use else CaptionStatus.TRUNCATED
        if record.finish_reason == "length":
            detail = f"not finished after {record.max_tokens} tokens"
            yield Finding(code="truncated", status=status, detail=detail, remedy=Remedy.TOKENS)
        elif record.level in PROSE and (why := _unfinished(record)):
            yield Finding(code="unfinished", status=status, detail=f"the text ends {why}", remedy=Remedy.SEED)


def _unfinished(record: CaptionRecord) -> str | None:
    """Why a text seems to stop within a sentence. A phrase without a full stop is no fault in itself."""
    text = record.text.strip()
    if not text or ENDED.search(text):
        return None
    text_words = words(text)
    if (text_words and text_words[-1] in DANGLING) or text[-1] in ",;:-–—(":
        return f"in the middle of a sentence ({text[-20:]!r})"
    if text.count("(") > text.count(")") or text.count('"') % 2 or text.count("“") > text.count("”"):
        return "within quotes or brackets"
    *before, last = sentences(text)
    if before and all(ENDED.search(sentence) for sentence in before):
        return f"without a full stop, unlike its other sentences ({last[-20:]!r})"
    if record.level == "dense" and len(text_words) >= MIN_WORDS and text[0].isupper():
        return f"without a full stop ({last[-20:]!r})"
    return None
