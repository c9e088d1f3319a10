"""Own text: how well a clip matches a text that the user brings, such as a title or an alt-text, before captioning."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from curate.encoders.base import EncoderPool
from curate.encoders.config import ImageTextConfig
from curate.encoders.conse import ConseConfig
from curate.encoders.descriptions import PLAIN, Template, embed_described
from curate.rules import Column
from curate.schema import content_digest
from curate.scores.base import Value
from curate.scores.frames import ClipFrames, embed


class OwnTextConfig(BaseModel):
    """The column, and the encoder that compares its texts with frames."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["own_text"] = "own_text"
    columns: ClassVar[Mapping[str, Column]] = {
        "own_text": Column(
            description="cosine similarity of your own text with the clip; clips without a text have none",
            range=(-1, 1),
            is_required=False,
        )
    }
    column: str = Field(description="your column of texts, of the sidecar or of the inputs; clips without one pass")
    encoder: ImageTextConfig | None = Field(None, description="null: score.encoder, or else the embedded ConSE")
    templates: tuple[Template, ...] = Field(
        PLAIN, min_length=1, description="sentences with {} for a text; its embeddings by all of them are averaged"
    )

    def build(self) -> "OwnTextScorer":
        return OwnTextScorer(self)


class OwnTextScorer:
    """`own_text`: cosine of the mean of the frames' unit vectors with the text's, in [-1, 1].

    The vector of a text that is longer than the encoder's context is the mean direction of its parts: nothing is cut
    off.
    """

    def __init__(self, config: OwnTextConfig) -> None:
        self.config = config
        self._encoder = (config.encoder or ConseConfig()).build()

    @cached_property
    def key(self) -> str:
        """Without the texts: a row of the table names the one that it is of."""
        return content_digest(self.config.kind, self._encoder.fingerprint, self.config.column, *self.config.templates)

    def setup(self, encoders: EncoderPool) -> None:
        """Load the encoder."""
        self._encoder = encoders.load(self._encoder)

    def score(self, clips: Sequence[ClipFrames]) -> list[dict[str, Value]]:
        texts = [clip.texts.get(self.config.column) for clip in clips]
        vectors = {text: embed_described(self._encoder, [text], self.config.templates)[0] for text in texts if text}
        values: list[dict[str, Value]] = []
        for text, images in zip(texts, embed(clips, self._encoder), strict=True):
            mean = images.mean(axis=0, dtype=np.float64)
            norm = max(float(np.linalg.norm(mean)), 1e-12)
            values.append({"own_text": float(mean @ vectors[text]) / norm} if text else {})
        return values
