"""Phrase tics: what a captioner writes again and again, over the whole dataset. Nothing is rejected for it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from caption.quality.base import Check, RecordKey, Remedies
from caption.quality.prose import PROSE
from caption.quality.words import words
from caption.record import Finding
from curate.dataset.captions import CaptionStatus

OPENING_WORDS = 3
PHRASE_WORDS = 4


class TicsConfig(BaseModel):
    """Finds openings and phrases that a large share of the captions has: a model trained on them learns these, too."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_captions: int = Field(50, ge=2, description="of fewer captions of a level, shares say nothing")
    max_opening: float = Field(0.2, gt=0, le=1, description="share of captions that may begin with the same 3 words")
    max_phrase: float = Field(0.2, gt=0, le=1, description="share of captions that may have the same 4 words in a row")

    def build(self) -> Check:
        return TicsCheck(self)


class TicsCheck(Check):
    """`tic`: no remedy and no rejection; the counts of codes and the details tell what to change in the prompt."""

    reads: ClassVar = "corpus"
    remedies: ClassVar[Remedies] = {"tic": ()}

    def __init__(self, config: TicsConfig) -> None:
        self.config = config

    def of_corpus(self, records: pa.Table, groups: Mapping[str, str]) -> Mapping[RecordKey, Sequence[Finding]]:
        found: dict[RecordKey, Sequence[Finding]] = {}
        rows = records.select(["clip_id", "level", "variant", "text"]).to_pylist()
        for level in PROSE:
            phrases = {
                (row["clip_id"], level, row["variant"]): _phrases(row["text"]) for row in rows if row["level"] == level
            }
            shares = self._shares(phrases.values())
            for key, of_text in phrases.items():
                if tics := of_text & shares.keys():
                    worst = min(tics, key=lambda phrase: (-shares[phrase], not phrase[0], phrase[1]))
                    found[key] = (_finding(worst, level, shares[worst]),)
        return found

    def _shares(self, phrases: Iterable[frozenset["Phrase"]]) -> dict["Phrase", float]:
        """Phrases that are too frequent → share of the captions that have them."""
        texts = list(phrases)
        if len(texts) < self.config.min_captions:
            return {}
        counts = Counter(phrase for of_text in texts for phrase in of_text)
        limits = {True: self.config.max_opening, False: self.config.max_phrase}
        shares = {phrase: count / len(texts) for phrase, count in counts.items()}
        return {phrase: share for phrase, share in shares.items() if share > limits[phrase[0]]}


Phrase = tuple[bool, str]
"""Whether it is an opening, and its words."""


def _phrases(text: str) -> frozenset[Phrase]:
    text_words = words(text)
    runs = (text_words[start : start + PHRASE_WORDS] for start in range(len(text_words) - PHRASE_WORDS + 1))
    opening = {(True, " ".join(text_words[:OPENING_WORDS]))} if len(text_words) >= OPENING_WORDS else set()
    return frozenset(opening | {(False, " ".join(run)) for run in runs})


def _finding(phrase: Phrase, level: str, share: float) -> Finding:
    is_opening, phrase_words = phrase
    detail = f"many {level} captions {'begin with' if is_opening else 'have'} {phrase_words!r} (share {share:.2f})"
    return Finding(code="tic", status=CaptionStatus.OK, detail=detail)
