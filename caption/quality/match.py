"""Text–clip score: how well a caption matches the frames, by an image–text encoder."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from caption.quality.base import Check, Evidence, Remedies
from caption.quality.prose import ProseCheck
from caption.quality.words import sentences
from caption.record import CaptionRecord, Finding, Remedy
from curate.dataset.captions import MATCH, CaptionStatus
from curate.encoders.config import ImageTextConfig

MAX_WORDS = 40
"""Longer sentences are embedded in parts: CLIP's text towers read 77 tokens, which 40 words hardly exceed."""


class MatchConfig(BaseModel):
    """Finds captions that match their frames badly. Without an encoder it measures nothing.

    Scores of different encoders do not compare: a bound is taken from the histogram of one's own captions.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: ImageTextConfig | None = Field(None, description="image–text encoder, such as open_clip; null: off")
    min: float | None = Field(
        None, ge=-1, le=1, description="least score, a cosine; null: scores are stored, and no caption is rejected"
    )

    def build(self) -> Check:
        return MatchCheck(self)


class MatchCheck(ProseCheck):
    """`caption_match`: other frames, since those may not have shown the subject; then the second model."""

    reads: ClassVar = "frames"
    remedies: ClassVar[Remedies] = {MATCH: (Remedy.FRAMES, Remedy.BACKEND)}

    def __init__(self, config: MatchConfig) -> None:
        self.config = config
        self._encoder = config.encoder.build() if config.encoder else None

    def setup(self) -> None:
        """Load the encoder.

        Raises:
            MissingWeights: embedded weights that were not fetched.
        """
        if self._encoder is not None:
            self._encoder.setup()

    def of_text(self, text: str, record: CaptionRecord, evidence: Evidence) -> Iterator[Finding]:
        if self._encoder is None or not len(evidence.frames):
            return
        score = self.score(text, evidence.frames)
        is_low = self.config.min is not None and score < self.config.min
        bound = f" < {self.config.min:g}" if is_low else ""
        yield Finding(
            code=MATCH,
            status=CaptionStatus.REJECTED if is_low else CaptionStatus.OK,
            detail=f"match of the text with the frames (cosine {score:.4f}{bound})",
            remedy=(Remedy.FRAMES if record.attempt <= 1 else Remedy.BACKEND) if is_low else None,
            value=score,
        )

    def score(self, text: str, frames: np.ndarray) -> float:
        """Mean over the sentences of the cosine with the mean frame, in [-1, 1].

        Each sentence is embedded alone, so that none is cut off. The mean, not the best: a caption of one true and
        three invented sentences is a bad one.

        Args:
            text: of any length.
            frames: (T, H, W, 3) uint8 RGB.
        """
        assert self._encoder is not None, "there is no encoder"
        clip = self._encoder.embed_images(list(frames)).astype(np.float64).mean(0)  # (d,)
        texts = self._encoder.embed_texts(parts_of(text)).astype(np.float64)  # (sentences, d)
        return float((texts @ clip).mean() / max(float(np.linalg.norm(clip)), 1e-12))


def parts_of(text: str) -> Sequence[str]:
    """The sentences; those of more than `MAX_WORDS` words in parts of equal length."""
    parts: list[str] = []
    for sentence in sentences(text):
        tokens = sentence.split()
        num_parts = -(-len(tokens) // MAX_WORDS)
        edges = [len(tokens) * part // num_parts for part in range(num_parts + 1)]
        parts += [" ".join(tokens[start:end]) for start, end in pairwise(edges)]
    return parts or [text]
