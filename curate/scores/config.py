"""Which scorers there are, and which of them run: one line per member."""

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

from curate.encoders.config import ImageTextConfig
from curate.scores.aesthetic import AestheticConfig
from curate.scores.brisque import BrisqueConfig
from curate.scores.embedding import EmbeddingConfig
from curate.scores.label import LabelConfig
from curate.scores.nsfw import NsfwConfig
from curate.scores.own_text import OwnTextConfig
from curate.scores.sound import SoundConfig
from curate.scores.static_overlay import StaticOverlayConfig
from curate.scores.text_area import TextAreaConfig
from curate.scores.text_match import TextMatchConfig

ScorerConfig = Annotated[
    StaticOverlayConfig
    | SoundConfig
    | BrisqueConfig
    | NsfwConfig
    | TextMatchConfig
    | LabelConfig
    | OwnTextConfig
    | EmbeddingConfig
    | AestheticConfig
    | TextAreaConfig,
    Field(discriminator="kind"),
]
"""In order of computation: the cheapest first, for early exit (docs/decisions/scores.md)."""
SCORERS = get_args(get_args(ScorerConfig)[0])
"""The settings of every member."""
KINDS: tuple[str, ...] = tuple(scorer.model_fields["kind"].default for scorer in SCORERS)

DEFAULT_SCORERS: tuple[ScorerConfig, ...] = (
    StaticOverlayConfig(),
    SoundConfig(),
    BrisqueConfig(),
    NsfwConfig(),
    TextMatchConfig(),
    EmbeddingConfig(),
    TextAreaConfig(),
)
"""All that need no weights of the user. Their names are their kinds."""


def default_scorers() -> dict[str, ScorerConfig]:
    return {scorer.kind: scorer for scorer in DEFAULT_SCORERS}


class ScoreConfig(BaseModel):
    """Which scorers run, and on which frames."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_frames: int = Field(8, ge=1, description="frames per clip, uniformly placed")
    short_side_px: int = Field(256, ge=32, description="shorter side that frames are scaled to, px")
    deinterlace: bool = Field(False, description="deinterlace the frames; set shards.encode.deinterlace too")
    encoder: ImageTextConfig | None = Field(
        None,
        description="encoder of the scorers that name none, such as open_clip, which sees each frame once for all of "
        "them; null: the embedded ones",
    )
    scorers: Mapping[str, ScorerConfig] = Field(
        default_factory=default_scorers,
        description="by name; null switches one off, and `scorers: null` all; `kind` can be left out where it is the "
        "name",
    )
    early_exit: bool = Field(
        False,
        description="skip the remaining scores of a clip that the policy rejects by the known ones; they stay pending",
    )

    @field_validator("encoder", mode="before")
    @classmethod
    def _open_clip(cls, encoder: Any) -> Any:
        """`score.encoder.model` is of open_clip where no kind is given."""
        return {"kind": "open_clip", **encoder} if isinstance(encoder, Mapping) else encoder

    @field_validator("scorers", mode="before")
    @classmethod
    def _by_name(cls, scorers: Any) -> Any:
        """Those that are switched on, each with its kind."""
        if scorers is None:
            return {}
        if not isinstance(scorers, Mapping) or isinstance(scorers.get("kind"), str):
            raise ValueError(_without_names(scorers))
        for name, settings in scorers.items():
            if name not in KINDS and not _has_kind(settings):
                _refuse_unknown(name, settings)
        named = {name: settings for name, settings in scorers.items() if settings is not None}
        return {
            name: {"kind": name, **settings} if isinstance(settings, Mapping) and name in KINDS else settings
            for name, settings in named.items()
        }

    @field_validator("scorers", mode="after")
    @classmethod
    def _in_order(cls, scorers: Mapping[str, ScorerConfig]) -> dict[str, ScorerConfig]:
        """In the order of computation. No two of them write one column."""
        writers: dict[str, str] = {}
        for name, scorer in scorers.items():
            for column in scorer.columns:
                if (other := writers.setdefault(column, name)) != name:
                    raise ValueError(
                        f"{other} and {name} both write the column {column}: one of them has to go "
                        f"(score.scorers.{name}=null)"
                    )
        return dict(sorted(scorers.items(), key=lambda item: KINDS.index(item[1].kind)))

    @property
    def reads(self) -> dict[str, str]:
        """Kind of a scorer → the user's column whose text it reads."""
        columns = ((scorer.kind, getattr(scorer, "column", None)) for scorer in self.scorers.values())
        return {kind: column for kind, column in columns if column is not None}

    def complete(self) -> dict[str, ScorerConfig]:
        """The scorers by name, those that name no encoder with the one of the section."""
        shared = {"encoder": self.encoder} if self.encoder else {}
        return {
            name: scorer.model_copy(update=shared) if getattr(scorer, "encoder", scorer) is None else scorer
            for name, scorer in self.scorers.items()
        }


def named_by_kind(scorers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The list of an earlier reelpack, with at most one of each kind, as the table of the same scorers."""
    return {scorer["kind"]: {name: value for name, value in scorer.items() if name != "kind"} for scorer in scorers}


def _has_kind(settings: Any) -> bool:
    return isinstance(settings, BaseModel) or (isinstance(settings, Mapping) and "kind" in settings)


def _refuse_unknown(name: str, settings: Any) -> None:
    """A name that is no kind, without a kind. Null is let pass where it can be meant: the name is like no kind."""
    if nearest := difflib.get_close_matches(name, KINDS, n=1):
        raise ValueError(f"{name}: no scorer of that name; the nearest one is {nearest[0]}")
    if settings is not None:
        raise ValueError(f"{name}: no scorer of that name; a new one says its kind: {', '.join(KINDS)}")


def _without_names(given: Any) -> str:
    """What is said of settings that are no table by name, with the table in their place."""
    listed = [given] if isinstance(given, Mapping) else given
    is_list = isinstance(listed, (list, tuple)) and all(isinstance(one, Mapping) and "kind" in one for one in listed)
    table = json.dumps(named_by_kind(listed), default=str) if is_list and listed else '{"text_match": {…}}'
    return (
        f"got {type(given).__name__}, expected scorers by name, such as {table}: names that are left out keep their "
        "defaults, null switches one off, and `score.scorers=null` all"
    )
