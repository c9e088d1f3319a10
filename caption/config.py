"""Settings of the caption step."""

from functools import cached_property
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from caption.backends.config import BackendConfig
from caption.backends.embedded import EmbeddedConfig
from caption.prompts import PROMPT_SETS
from caption.quality.config import ChecksConfig
from curate.dataset.captions import KINDS, CaptionKind
from curate.schema import content_digest

KEY_HEX_DIGITS = 12


class CaptionConfig(BaseModel):
    """Which model captions, what it is shown and asked, and which checks run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backend: BackendConfig = EmbeddedConfig()
    prompts: Literal["plain-v1", "detailed-v1"] = Field(
        "plain-v1",
        description="wording, see caption/prompts.py; detailed-v1 is for models of 2 B weights and up",
    )
    checks: ChecksConfig = ChecksConfig()
    num_frames: int = Field(4, ge=1, description="frames per clip, at the middles of equal parts")
    short_max_tokens: int = Field(32, ge=1, description="token limit of a short caption")
    dense_max_tokens: int = Field(96, ge=1, description="token limit of a dense caption; raise it for larger models")
    batch_size: int = Field(16, ge=1, description="clips per batch")

    @property
    def name(self) -> str:
        return self.backend.name

    def pinned(self) -> "CaptionConfig":
        """The same with the revision that the model's name means now, see `BackendSettings.pinned`."""
        return self.model_copy(update={"backend": self.backend.pinned()})

    @cached_property
    def key(self) -> str:
        """Digest of the function clip → records: model, decoding, checks, prompts, frames. Batch size is not in it.

        Raises:
            MissingWeights: embedded weights are not there.
            ValueError: neither the hub nor its local cache knows the model.
        """
        prompts = PROMPT_SETS[self.prompts]
        return content_digest(
            "caption",
            self.backend.build().provenance.fingerprint,
            self.checks.model_dump_json(),
            *(prompts.of(kind).digest for kind in KINDS),
            *(str(number) for number in (self.num_frames, self.short_max_tokens, self.dense_max_tokens)),
        )[:KEY_HEX_DIGITS]

    def max_tokens(self, kind: CaptionKind) -> int:
        return self.short_max_tokens if kind == "short" else self.dense_max_tokens
