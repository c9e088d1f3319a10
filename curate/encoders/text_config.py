"""Settings of a text encoder."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from curate.encoders import weights
from curate.encoders.hub import resolve_commit
from curate.encoders.manifest import ASSETS


class TextEncoderConfig(BaseModel):
    """Which text encoder, and how much of a text it sees."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field("minilm-l6-v2", description="embedded weights by name, a local folder, or a hub id")
    revision: str | None = Field(
        None, description="commit, branch or tag of a hub id; none: main. A run stays with the commit that it means"
    )
    subfolder: str | None = Field(
        None,
        description="folder of the text encoder in a diffusers pipeline, such as `text_encoder_2`; the tokenizer is "
        "in the folder of the same number, `tokenizer_2`",
    )
    layer: int | None = Field(
        None,
        le=-2,
        description="hidden states that are taken, counted from the end: -2 is the penultimate layer (SDXL), -3 what "
        "HunyuanVideo takes; null: the last, after the final norm",
    )
    padding: Literal["none", "attended", "stored"] = Field(
        "none",
        description="none: a text's tokens see no padding; attended: they see padding to `max_tokens` (LTX-Video); "
        "stored: its states are stored as well (SD, FLUX, CogVideoX)",
    )
    max_tokens: int = Field(256, ge=1, description="longer texts are cut off, special tokens included")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="precision of the model")
    batch_size: int | None = Field(
        None,
        ge=1,
        description="texts per forward pass; none: 32 on a GPU, 1 on a CPU, where a batch saves little and where a "
        "text's states are then equal to the bit in any batch",
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:<n>")

    @property
    def path(self) -> Path | None:
        """The path of a model that is no hub id.

        Raises:
            MissingWeights: embedded weights that were not fetched.
        """
        if self.model in ASSETS:
            return weights.resolve(self.model)
        folder = Path(self.model).expanduser()
        return folder if folder.is_dir() else None

    def pinned(self) -> "TextEncoderConfig":
        """The same settings with the hub id's current commit: every worker and every rerun then loads that one.

        Raises:
            MissingWeights: embedded weights that were not fetched.
            ValueError: neither the hub nor its local cache knows the id.
        """
        if self.path is not None:
            return self
        return self.model_copy(update={"revision": resolve_commit(self.model, self.revision, "text encoder model")})
