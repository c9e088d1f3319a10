"""Texts in another language than the wanted one."""

from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from caption.quality.base import Check, Evidence, Remedies
from caption.quality.prose import ProseCheck
from caption.quality.words import sentences, unquoted, words
from caption.record import CaptionRecord, Finding, Remedy
from curate.dataset.captions import CaptionStatus

MIN_SENTENCE_WORDS = 6
"""Shorter sentences of a longer text are not looked at alone: names in them decide."""


class LanguageConfig(BaseModel):
    """Finds texts that are hardly in the wanted language, by py3langid, a naive Bayes classifier of 139 languages.

    A text of one or two words has no language that could be told, and passes, unless its script is another one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    language: str = Field("en", pattern="^[a-z]{2,3}$", description="ISO 639-1 code of the wanted language")
    min_probability: float = Field(
        0.01, gt=0, lt=1, description="least probability of the wanted language, of a text and of each longer sentence"
    )
    min_words: int = Field(3, ge=1, description="texts of fewer words pass")

    def build(self) -> Check:
        return LanguageCheck(self)


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
        from py3langid.langid import MODEL_FILE, LanguageIdentifier

        self._identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
        if self.config.language not in (known := sorted(map(str, self._identifier.labels))):
            raise ValueError(
                f"caption.checks.language.language: got {self.config.language!r}; expected one of {', '.join(known)}, "
                "or caption.checks.language=null"
            )

    def of_text(self, text: str, record: CaptionRecord, evidence: Evidence) -> Iterator[Finding]:
        told = unquoted(text)
        if len(words(told)) < self.config.min_words:
            return
        for part in (told, *(one for one in sentences(told) if len(words(one)) >= MIN_SENTENCE_WORDS)):
            probabilities = dict(self._identifier.rank(part))
            if probabilities[self.config.language] < self.config.min_probability:
                likely = max(probabilities, key=probabilities.__getitem__)
                yield Finding(
                    code="wrong_language",
                    status=CaptionStatus.REJECTED,
                    detail=f"the text is not in {self.config.language!r} (most likely {likely!r})",
                    remedy=Remedy.PROMPT,
                    instruction=f"Write in the language {self.config.language!r} (ISO 639-1) alone.",
                )
                return
