"""Texts in another language than the wanted one."""

import unicodedata
from collections.abc import Iterator
from functools import cache
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from caption.quality.base import Check, Evidence, Remedies
from caption.quality.prose import ProseCheck
from caption.quality.words import sentences, unquoted, words
from caption.record import CaptionRecord, Finding, Remedy
from curate.dataset.captions import CaptionStatus

MIN_SENTENCE_WORDS = 6
"""Shorter sentences of a longer text are not looked at alone: names in them decide."""

MIN_OTHER_LETTERS = 3
"""Of another script within Latin text; fewer are symbols, such as "5 Ω"."""


class LanguageConfig(BaseModel):
    """Finds texts that are hardly in the wanted language, by py3langid, a naive Bayes classifier of 139 languages, and
    words of another script within Latin text.

    The words of a very short text do not determine its language: it passes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    language: str = Field("en", pattern="^[a-z]{2,3}$", description="ISO 639-1 code of the wanted language")
    min_probability: float = Field(
        0.005,
        gt=0,
        lt=1,
        description="least probability of the wanted language, of a text and of each longer sentence",
    )
    min_words: int = Field(5, ge=1, description="shorter texts pass")

    def build(self) -> Check:
        return LanguageCheck(self)


@cache
def _load() -> Any:
    """The classifier, once per process: it takes a second."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


class LanguageCheck(ProseCheck):
    """`wrong_language`: told the language."""

    remedies: ClassVar[Remedies] = {"wrong_language": (Remedy.PROMPT,)}

    def __init__(self, config: LanguageConfig) -> None:
        self.config = config
        self._identifier: Any = None

    def setup(self) -> None:
        """Load the classifier, 5 MB.

        Raises:
            ValueError: the classifier does not know the language.
        """
        self._identifier = _load()
        if self.config.language not in (known := sorted(map(str, self._identifier.labels))):
            raise ValueError(
                f"caption.checks.language.language: got {self.config.language!r}; expected one of {', '.join(known)}, "
                "or caption.checks.language=null"
            )

    def of_text(self, text: str, record: CaptionRecord, evidence: Evidence) -> Iterator[Finding]:
        if found := self._other(unquoted(text)):
            yield Finding(
                code="wrong_language",
                status=CaptionStatus.REJECTED,
                detail=f"the text is not in {self.config.language!r} alone ({found})",
                remedy=Remedy.PROMPT,
                instruction=f"Write in the language {self.config.language!r} (ISO 639-1) alone.",
            )

    def _other(self, text: str) -> str | None:
        """What is in another language."""
        if len(words(text)) < self.config.min_words:
            return None
        longer = (one for one in sentences(text) if len(words(one)) >= MIN_SENTENCE_WORDS)
        for part in dict.fromkeys((text, *longer)):  # a text of one sentence is looked at once
            probabilities = dict(self._identifier.rank(part))
            if probabilities[self.config.language] < self.config.min_probability:
                return f"most likely {max(probabilities, key=probabilities.__getitem__)!r}"
        letters = [letter for letter in text if letter.isalpha()]
        others = "".join(letter for letter in letters if "LATIN" not in unicodedata.name(letter, "LATIN"))
        is_mixed = MIN_OTHER_LETTERS <= len(others) < len(letters) / 2
        return f"other letters {others[:10]!r}" if is_mixed else None
