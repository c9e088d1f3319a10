"""Which scorers there are, and which of them run: one line per member."""

from typing import Annotated, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

from curate.scores.aesthetic import AestheticConfig
from curate.scores.brisque import BrisqueConfig
from curate.scores.embedding import EmbeddingConfig
from curate.scores.nsfw import NsfwConfig
from curate.scores.sound import SoundConfig
from curate.scores.static_overlay import StaticOverlayConfig
from curate.scores.text_area import TextAreaConfig
from curate.scores.text_match import TextMatchConfig

ScorerConfig = Annotated[
    StaticOverlayConfig
    | SoundConfig
    | BrisqueConfig
    | TextMatchConfig
    | EmbeddingConfig
    | NsfwConfig
    | TextAreaConfig
    | AestheticConfig,
    Field(discriminator="kind"),
]
SCORERS = get_args(get_args(ScorerConfig)[0])
"""The settings of every member."""

DEFAULT_SCORERS: tuple[ScorerConfig, ...] = (
    StaticOverlayConfig(),
    SoundConfig(),
    BrisqueConfig(),
    NsfwConfig(),
    TextMatchConfig(),
    EmbeddingConfig(),
    TextAreaConfig(),
)
"""All that need no weights of the user; the cheapest first, for early exit (docs/decisions/scores.md)."""


class ScoreConfig(BaseModel):
    """Which scorers run, and on which frames."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_frames: int = Field(8, ge=1, description="frames per clip, uniformly placed")
    short_side_px: int = Field(256, ge=32, description="shorter side that frames are scaled to, px")
    deinterlace: bool = Field(False, description="deinterlace the frames; set shards.encode.deinterlace too")
    scorers: tuple[ScorerConfig, ...] = Field(
        DEFAULT_SCORERS, description="in order of computation; at most one of each kind"
    )
    early_exit: bool = Field(
        False,
        description="skip the remaining scores of a clip that the policy rejects by the known ones; they stay pending",
    )

    @field_validator("scorers")
    @classmethod
    def _one_of_each_kind(cls, scorers: tuple[ScorerConfig, ...]) -> tuple[ScorerConfig, ...]:
        kinds = [scorer.kind for scorer in scorers]
        if repeated := sorted({kind for kind in kinds if kinds.count(kind) > 1}):
            raise ValueError(f"got {', '.join(repeated)} more than once; two of a kind would write the same columns")
        return scorers
