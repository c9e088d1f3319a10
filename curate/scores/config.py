"""Which scorers there are, and which of them run: one line per member."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from curate.scores.embedding import EmbeddingConfig
from curate.scores.text_match import TextMatchConfig

ScorerConfig = Annotated[TextMatchConfig | EmbeddingConfig, Field(discriminator="kind")]


class ScoreConfig(BaseModel):
    """Which scorers run, and on which frames."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_frames: int = Field(8, ge=1, description="frames per clip, uniformly placed")
    short_side_px: int = Field(256, ge=32, description="shorter side that frames are scaled to, px")
    scorers: tuple[ScorerConfig, ...] = Field(
        (TextMatchConfig(), EmbeddingConfig()), description="in order of computation; at most one of each kind"
    )
    early_exit: bool = Field(
        False, description="leave out, and pending, the scores of a clip that the policy rejects for what is known"
    )

    @field_validator("scorers")
    @classmethod
    def _one_of_each_kind(cls, scorers: tuple[ScorerConfig, ...]) -> tuple[ScorerConfig, ...]:
        kinds = [scorer.kind for scorer in scorers]
        if repeated := sorted({kind for kind in kinds if kinds.count(kind) > 1}):
            raise ValueError(f"got {', '.join(repeated)} more than once; two of a kind would write the same columns")
        return scorers
