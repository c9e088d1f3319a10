"""Label: which one of several descriptions fits a clip best, without training (zero-shot)."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, field_validator

from curate.encoders.base import EncoderPool
from curate.encoders.config import ImageTextConfig
from curate.encoders.conse import ConseConfig
from curate.encoders.descriptions import PLAIN, Template, embed_described
from curate.rules import Column
from curate.schema import content_digest
from curate.scores.base import Value
from curate.scores.frames import ClipFrames, embed


class LabelConfig(BaseModel):
    """The labels, and the encoder that compares them with frames."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["label"] = "label"
    columns: ClassVar[Mapping[str, Column]] = {
        "clip_label": Column(description="the one of the labels that fits the clip best", type=pa.string()),
        "clip_label_margin": Column(
            description="cosine similarity with the best label minus that with the second best", range=(0, 2)
        ),
    }
    encoder: ImageTextConfig | None = Field(None, description="null: score.encoder, or else the embedded ConSE")
    labels: tuple[str, ...] = Field(
        ("people", "an animal", "a landscape", "a street in a city", "the inside of a room", "a vehicle", "food"),
        min_length=2,
        description="descriptions that exclude each other; rules name them: select.rules.clip_label.in",
    )
    templates: tuple[Template, ...] = Field(
        PLAIN, min_length=1, description="sentences with {} for a label; its embeddings by all of them are averaged"
    )

    @field_validator("labels")
    @classmethod
    def _differ(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(labels)) < len(labels):
            raise ValueError(f"{max(labels, key=labels.count)!r} is named more than once")
        return labels

    def build(self) -> "LabelScorer":
        return LabelScorer(self)


class LabelScorer:
    """`clip_label`: of the labels the one with the highest cosine similarity, mean over the frames; of equal ones the
    first. `clip_label_margin`: its similarity minus that of the second best, in [0, 2].

    The margin and no probability: a softmax needs the temperature of the encoder, and changes with every label that is
    added to the list.
    """

    def __init__(self, config: LabelConfig) -> None:
        self.config = config
        self._encoder = (config.encoder or ConseConfig()).build()
        self._texts: np.ndarray | None = None

    @cached_property
    def key(self) -> str:
        named = [str(len(self.config.labels)), *self.config.labels, *self.config.templates]
        return content_digest(self.config.kind, self._encoder.fingerprint, *named)

    def setup(self, encoders: EncoderPool) -> None:
        """Load the encoder, embed the labels."""
        self._encoder = encoders.load(self._encoder)
        self._texts = embed_described(self._encoder, self.config.labels, self.config.templates)

    def score(self, clips: Sequence[ClipFrames]) -> list[dict[str, Value]]:
        assert self._texts is not None, "setup() comes first"
        values: list[dict[str, Value]] = []
        for images in embed(clips, self._encoder):
            similarities = (images.astype(np.float64) @ self._texts.T).mean(axis=0)  # (labels,)
            best, second = np.argsort(-similarities, kind="stable")[:2]
            margin = float(similarities[best] - similarities[second])
            values.append({"clip_label": self.config.labels[best], "clip_label_margin": margin})
        return values
