"""Embedding: one vector per clip, for duplicates by meaning and for weights by concept."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from curate.encoders.base import EncoderPool
from curate.encoders.config import ImageConfig
from curate.encoders.efficientnet import EfficientNetConfig
from curate.rules import Column
from curate.schema import content_digest
from curate.scores.base import Value
from curate.scores.frames import ClipFrames, embed

STEPS = 2048
"""Components are multiples of 1/STEPS: Parquet's dictionary stores the few distinct values in about a byte each."""


class EmbeddingConfig(BaseModel):
    """The encoder. Vectors of different encoders do not compare."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["embedding"] = "embedding"
    columns: ClassVar[Mapping[str, Column]] = {
        "embedding": Column(
            description="unit vector of the clip, for duplicates by meaning",
            range=(-1, 1),
            type=pa.list_(pa.float32()),
        )
    }
    encoder: ImageConfig | None = Field(None, description="null: score.encoder, or else the embedded EfficientNet")

    @property
    def used(self) -> ImageConfig:
        """The encoder that is used where the section `score` names none."""
        return self.encoder or EfficientNetConfig()

    def build(self) -> "EmbeddingScorer":
        return EmbeddingScorer(self)


class EmbeddingScorer:
    """`embedding`: the mean of the frames' unit vectors, scaled to unit length; components rounded to 1/2048.

    The rounding moves a cosine by less than 0.001 at any width. Frames that point in opposite directions can cancel:
    the vector is then 0, which is no duplicate of any.
    """

    def __init__(self, config: EmbeddingConfig) -> None:
        self.config = config
        self._encoder = config.used.build()

    @cached_property
    def key(self) -> str:
        return content_digest(self.config.kind, self._encoder.fingerprint, str(STEPS))

    def setup(self, encoders: EncoderPool) -> None:
        """Load the encoder."""
        self._encoder = encoders.load(self._encoder)

    def score(self, clips: Sequence[ClipFrames]) -> list[dict[str, Value]]:
        return [{"embedding": _mean_direction(vectors).tolist()} for vectors in embed(clips, self._encoder)]


def _mean_direction(vectors: np.ndarray) -> np.ndarray:
    """(T, d) unit vectors to (d,) float64: their rounded mean direction."""
    mean = vectors.mean(axis=0, dtype=np.float64)
    norm = np.linalg.norm(mean)
    return np.rint(mean / norm * STEPS) / STEPS if norm > 0 else np.zeros_like(mean)
