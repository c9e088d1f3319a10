"""Stage: clips → scores. Decodes each clip's sampled frames once, for all scorers that owe it a value."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from curate.media.sample import sample_frames
from curate.schema import Clip, Failure, FailureKind, MediaError, content_digest
from curate.scores.scorer import Scorer
from curate.scores.text_match import TextMatchConfig

STEP = "score"
KEY_HEX_DIGITS = 12
SCORE_DIGITS = 5
"""Decimals that are kept: what follows differs with the number of threads that a worker has."""

ScorerConfig = TextMatchConfig
"""A second scorer makes this `Annotated[TextMatchConfig | …, Field(discriminator="kind")]`."""


class ScoreConfig(BaseModel):
    """Which scorers run, and on which frames."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_frames: int = Field(8, ge=1, description="frames per clip, uniformly placed")
    short_side_px: int = Field(256, ge=32, description="shorter side that frames are scaled to, px")
    scorers: tuple[ScorerConfig, ...] = Field((TextMatchConfig(),), description="at most one of each kind")

    @field_validator("scorers")
    @classmethod
    def _one_of_each_kind(cls, scorers: tuple[ScorerConfig, ...]) -> tuple[ScorerConfig, ...]:
        kinds = [scorer.kind for scorer in scorers]
        if repeated := sorted({kind for kind in kinds if kinds.count(kind) > 1}):
            raise ValueError(f"got {', '.join(repeated)} more than once; two of a kind would write the same columns")
        return scorers


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreItem:
    """A clip to score, and the local path of its video. `families`: what it still owes; None is all."""

    clip: Clip
    path: str
    families: frozenset[str] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """Values of one clip: family → column → value. `num_decoded_frames` counts what was decoded for them."""

    clip_id: str
    values: Mapping[str, Mapping[str, float]]
    num_decoded_frames: int


class ScoreStage:
    """One sampled decode per clip, then every scorer on the frames of all clips of the batch."""

    def __init__(self, config: ScoreConfig) -> None:
        self.config = config
        self._scorers: tuple[Scorer, ...] = tuple(scorer.build() for scorer in config.scorers)

    @cached_property
    def families(self) -> dict[str, tuple[str, ...]]:
        """Family → its columns. A family, `<name>-<hash>`, is what a table holds: a scorer with its parameters and
        weights, on frames sampled in this way. Needs no `setup`.

        Raises:
            MissingWeights: weights that the digests are taken of are not there.
        """
        return {family: scorer.columns for family, scorer in self._by_family.items()}

    @cached_property
    def _by_family(self) -> dict[str, Scorer]:
        frames = (str(self.config.num_frames), str(self.config.short_side_px))
        return {
            f"{scorer.name}-{content_digest(scorer.key, *frames)[:KEY_HEX_DIGITS]}": scorer for scorer in self._scorers
        }

    def setup(self) -> None:
        """Load the weights of every scorer."""
        for scorer in self._scorers:
            scorer.setup()

    def process(self, items: Sequence[ScoreItem]) -> list[Scored | Failure]:
        """Score each clip, in order. An item that owes nothing is not decoded."""
        frames: dict[int, np.ndarray] = {}
        failures: dict[int, Failure] = {}
        for row, item in enumerate(items):
            if any(_owes(item, family) for family in self._by_family):
                try:
                    frames[row] = self._decode(item)
                except MediaError as error:
                    failures[row] = error.failure(item.clip.clip_id, STEP)
        values: list[dict[str, dict[str, float]]] = [{} for _ in items]
        for family, scorer in self._by_family.items():
            rows = [row for row in frames if _owes(items[row], family)]
            for row, score in zip(rows, scorer.score([frames[row] for row in rows]), strict=True):
                values[row][family] = score
        return [
            failures.get(row) or _outcome(item.clip.clip_id, values[row], len(frames.get(row, ())))
            for row, item in enumerate(items)
        ]

    def _decode(self, item: ScoreItem) -> np.ndarray:
        num_frames = min(self.config.num_frames, item.clip.num_frames)
        return sample_frames(item.path, item.clip.span, num_frames, short_side_px=self.config.short_side_px).rgb


def _outcome(clip_id: str, values: Mapping[str, Mapping[str, float]], num_decoded_frames: int) -> Scored | Failure:
    """A value that is no number would pass or fail a threshold by accident: it is the scorer's failure."""
    for family, score in values.items():
        if bad := {column: value for column, value in score.items() if not math.isfinite(value)}:
            return Failure(subject=clip_id, step=STEP, kind=FailureKind.MODEL, detail=f"{family} gave {bad}")
    rounded = {
        family: {column: round(float(value), SCORE_DIGITS) for column, value in score.items()}
        for family, score in values.items()
    }
    return Scored(clip_id=clip_id, values=rounded, num_decoded_frames=num_decoded_frames)


def _owes(item: ScoreItem, family: str) -> bool:
    return item.families is None or family in item.families
