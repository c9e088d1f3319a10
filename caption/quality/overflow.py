"""Texts that are longer than a trainer's text encoder reads: the end would never be seen."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from caption.quality.base import Check, Evidence, Remedies
from caption.quality.prose import ProseCheck
from caption.quality.words import words
from caption.record import CaptionRecord, Finding, Remedy
from curate.dataset.captions import CaptionStatus
from curate.encoders.text_config import TextEncoderConfig

MARGIN = 0.9
"""Of the words that would fit: another wording can have more tokens a word."""


class EncoderLimit(BaseModel):
    """A text encoder, as the section `text` names it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(description="embedded weights by name, a local folder, or a hub id")
    revision: str | None = Field(None, description="commit, branch or tag of a hub id; none: main")
    max_tokens: int = Field(ge=1, description="tokens that the encoder reads, special tokens included")


class OverflowConfig(BaseModel):
    """Finds texts that are too long for a text encoder. Without encoders it finds nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoders: tuple[EncoderLimit, ...] = Field(
        (), description="text encoders of the models that are trained on the captions, such as that of section text"
    )

    def build(self) -> Check:
        return OverflowCheck(self)


class OverflowCheck(ProseCheck):
    """`overflow`: told how many words fit. One finding for each encoder that is too short."""

    remedies: ClassVar[Remedies] = {"overflow": (Remedy.PROMPT,)}

    def __init__(self, config: OverflowConfig) -> None:
        self.config = config
        self._tokenizers: Sequence[Any] = ()

    def setup(self) -> None:
        """Load the tokenizers, not the encoders.

        Raises:
            MissingWeights: embedded weights that were not fetched.
            ValueError: a tokenizer cannot be loaded.
        """
        self._tokenizers = [_tokenizer(encoder) for encoder in self.config.encoders]

    def of_text(self, text: str, record: CaptionRecord, evidence: Evidence) -> Iterator[Finding]:
        for encoder, tokenizer in zip(self.config.encoders, self._tokenizers, strict=True):
            num_tokens = len(tokenizer(text, truncation=False, verbose=False).input_ids)
            if num_tokens > encoder.max_tokens:
                fitting = max(1, int(len(words(text)) * encoder.max_tokens / num_tokens * MARGIN))
                yield Finding(
                    code="overflow",
                    status=CaptionStatus.REJECTED,
                    detail=f"longer than {encoder.model} reads (tokens {num_tokens} > {encoder.max_tokens})",
                    remedy=Remedy.PROMPT,
                    instruction=f"Write at most {fitting} words.",
                )


def _tokenizer(encoder: EncoderLimit) -> Any:
    import transformers

    path = TextEncoderConfig(model=encoder.model).path
    try:
        return transformers.AutoTokenizer.from_pretrained(
            str(path) if path else encoder.model, revision=None if path else encoder.revision
        )
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"caption.checks.overflow.encoders: the tokenizer of {encoder.model!r} cannot be loaded ({reason}); "
            "expected embedded weights, a local folder or a hub id"
        ) from error
