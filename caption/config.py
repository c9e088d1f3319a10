"""Settings of the caption step."""

from functools import cached_property
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from caption.backends.config import BackendConfig
from caption.backends.embedded import EmbeddedConfig
from caption.frames import FramesConfig
from caption.prompts import PROMPT_SETS, PromptSet
from caption.quality.config import ChecksConfig
from curate.dataset.captions import CaptionLevel
from curate.media.readers.config import MediaConfig
from curate.media.readers.frames import FrameReader
from curate.schema import content_digest

KEY_HEX_DIGITS = 12


class CaptionConfig(BaseModel):
    """Which model captions, what it is shown and asked, which checks run, and what is done about what they find."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backend: BackendConfig | None = Field(EmbeddedConfig(), description="the model; null: no model is asked")
    fallback: BackendConfig | None = Field(
        None, description="a second model, for captions whose findings ask for another; null: none"
    )
    original: str | None = Field(
        None, description="column of the sidecar with the user's own text, which becomes the level `original`"
    )
    prompts: Literal["auto", "plain-v1", "detailed-v1", "fields-v1"] = Field(
        "auto",
        description="wording, see caption/prompts.py; auto: plain-v1 for the embedded captioner, fields-v1 for others",
    )
    checks: ChecksConfig = ChecksConfig()
    max_attempts: int = Field(3, ge=1, description="attempts per caption; each applies the remedies of its findings")
    frames: FramesConfig = FramesConfig()
    short_max_tokens: int = Field(32, ge=1, description="token limit of a short caption")
    dense_max_tokens: int = Field(96, ge=1, description="token limit of a dense caption; raise it for larger models")
    fields_max_tokens: int = Field(512, ge=1, description="token limit of the fields")
    variants: int = Field(
        0, ge=0, description="further dense captions per clip, composed from its fields with some left out or moved"
    )
    batch_size: int = Field(16, ge=1, description="clips per batch")

    _media: MediaConfig = PrivateAttr(MediaConfig())

    @model_validator(mode="after")
    def _variants_have_fields(self) -> "CaptionConfig":
        if self.variants and (self.backend is None or "fields" not in self.prompt_set.levels):
            raise ValueError(
                f"variants: got {self.variants}, which are composed from fields; prompts={self.prompts} with this "
                "backend asks for none; expected prompts=fields-v1 and a model that follows them"
            )
        return self

    def read_by(self, media: MediaConfig) -> "CaptionConfig":
        """The same with the reader of the frames, which is a section of its own."""
        copy = self.model_copy()
        copy._media = media
        copy.__dict__.pop("key", None)  # computed for another reader
        return copy

    @property
    def media(self) -> MediaConfig:
        """The settings of what decodes the clips."""
        return self._media

    @property
    def reader(self) -> FrameReader:
        """What decodes the clips."""
        return self._media.build()

    @property
    def prompt_set(self) -> PromptSet:
        """The prompts; none without a model."""
        if self.backend is None:
            return PromptSet(prompts=())
        auto = "plain-v1" if isinstance(self.backend, EmbeddedConfig) else "fields-v1"
        return PROMPT_SETS[auto if self.prompts == "auto" else self.prompts]

    @property
    def name(self) -> str:
        return self.backend.name if self.backend else "none"

    @property
    def family(self) -> str | None:
        """Names the table of the captioner's records; None without a model."""
        return f"{self.name}-{self.key}" if self.backend else None

    def pinned(self) -> "CaptionConfig":
        """The same with the revisions that the models' names mean now, see `BackendSettings.pinned`."""
        models = {"backend": self.backend, "fallback": self.fallback}
        return self.model_copy(update={name: model and model.pinned() for name, model in models.items()})

    @cached_property
    def key(self) -> str:
        """Digest of the function clip → records: models, decoding, checks of frames, prompts, frames. Batch
        size is not in it, nor are checks that can be applied to stored texts, see `pipelines.steps.recheck`.

        Raises:
            MissingWeights: embedded weights are not there.
            ValueError: neither the hub nor its local cache knows the model.
        """
        models = [model.build().provenance.fingerprint for model in (self.backend, self.fallback) if model]
        merge = self.prompt_set.merge
        numbers = (self.short_max_tokens, self.dense_max_tokens, self.fields_max_tokens)
        return content_digest(
            "caption",
            *models,
            self.checks.of_frames().model_dump_json(),
            self.frames.model_dump_json(),
            *(prompt.digest for prompt in self.prompt_set.prompts),
            merge.digest if merge and self.frames.window_s else "",
            *map(str, (*numbers, self.variants, self.max_attempts)),
            *filter(None, [self.reader.key]),
        )[:KEY_HEX_DIGITS]

    def max_tokens(self, level: CaptionLevel) -> int:
        limits = {"short": self.short_max_tokens, "dense": self.dense_max_tokens, "fields": self.fields_max_tokens}
        return limits[level]
