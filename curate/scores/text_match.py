"""Text match: similarity of a clip's frames with wanted descriptions, minus that with unwanted ones."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from curate.encoders.base import EncoderPool
from curate.encoders.config import ImageTextConfig
from curate.encoders.conse import ConseConfig
from curate.encoders.descriptions import PLAIN, Template, embed_described
from curate.rules import Column
from curate.schema import content_digest
from curate.scores.base import Value
from curate.scores.frames import ClipFrames, embed


class TextMatchConfig(BaseModel):
    """Descriptions, and the encoder that compares them with frames. Values of different encoders do not compare."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["text_match"] = "text_match"
    columns: ClassVar[Mapping[str, Column]] = {
        "text_match": Column(
            description="wanted_best minus unwanted_best: a difference of cosine similarities", range=(-2, 2)
        ),
        "wanted_best": Column(
            description="best cosine similarity with a wanted description, mean over the frames", range=(-1, 1)
        ),
        "unwanted_best": Column(
            description="best cosine similarity with an unwanted description, mean over the frames", range=(-1, 1)
        ),
    }
    encoder: ImageTextConfig | None = Field(None, description="null: score.encoder, or else the embedded ConSE")
    wanted: tuple[str, ...] = Field(
        ("people", "an animal", "a landscape", "a street in a city", "the inside of a room", "a vehicle", "food"),
        description="what the clips should show; a frame counts by its best match",
    )
    unwanted: tuple[str, ...] = Field(
        ("a page of text", "a screenshot of a web page", "a logo", "film credits", "a test pattern", "a blank screen"),
        description="what the clips should not show; a frame counts by its best match",
    )

    templates: tuple[Template, ...] = Field(
        PLAIN,
        min_length=1,
        description="sentences with {} for a description; its embeddings by all of them are averaged",
    )

    @model_validator(mode="after")
    def _something_to_compare_with(self) -> "TextMatchConfig":
        if not self.wanted and not self.unwanted:
            raise ValueError("wanted and unwanted are both empty: there is nothing to compare the frames with")
        return self

    def build(self) -> "TextMatchScorer":
        return TextMatchScorer(self)


class TextMatchScorer:
    """Cosine similarities of a clip's frames with two lists of descriptions.

    - `wanted_best`, `unwanted_best`: per frame the highest cosine with any description of the list, averaged over the
      frames; in [-1, 1], and 0 for an empty list.
    - `text_match` = `wanted_best` - `unwanted_best`, in [-2, 2].

    A difference of cosines and no softmax: a softmax needs the encoder's temperature (ConSE has none), shifts with
    every description that is added to a list, and saturates: thresholds could not be moved afterwards.
    """

    def __init__(self, config: TextMatchConfig) -> None:
        self.config = config
        self._encoder = (config.encoder or ConseConfig()).build()
        self._texts: np.ndarray | None = None

    @cached_property
    def key(self) -> str:
        wanted, unwanted = self.config.wanted, self.config.unwanted
        templates = [] if self.config.templates == PLAIN else ["templates", *self.config.templates]
        named = [str(len(wanted)), *wanted, *unwanted, *templates]
        return content_digest(self.config.kind, self._encoder.fingerprint, *named)

    def setup(self, encoders: EncoderPool) -> None:
        """Load the encoder, embed the descriptions."""
        self._encoder = encoders.load(self._encoder)
        descriptions = [*self.config.wanted, *self.config.unwanted]
        self._texts = embed_described(self._encoder, descriptions, self.config.templates)

    def score(self, clips: Sequence[ClipFrames]) -> list[dict[str, Value]]:
        assert self._texts is not None, "setup() comes first"
        num_wanted = len(self.config.wanted)
        values: list[dict[str, Value]] = []
        for images in embed(clips, self._encoder):
            similarities = images.astype(np.float64) @ self._texts.T  # (T, wanted + unwanted)
            wanted = _mean_best(similarities[:, :num_wanted])
            unwanted = _mean_best(similarities[:, num_wanted:])
            values.append({"text_match": wanted - unwanted, "wanted_best": wanted, "unwanted_best": unwanted})
        return values


def _mean_best(similarities: np.ndarray) -> float:
    """Mean over the frames of the best of a list: (T, n) to a number; 0 for an empty list."""
    return float(similarities.max(axis=1).mean()) if similarities.shape[1] else 0.0
