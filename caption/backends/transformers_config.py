"""Which model of transformers captions, and how it decodes."""

from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from curate.encoders.hub import resolve_commit

if TYPE_CHECKING:
    from caption.backends.base import CaptionBackend

EMBEDDED = "reelpack-llava"
"""Name of the embedded captioner, docs/models/reelpack_llava.md."""

EMBEDDED_CAVEAT = (
    "an embedded demo captioner for one film, Big Buck Bunny: it names that film's figures, and nearly every "
    "dense caption invents animals or things. It says nothing of clips that do not look like the film; for other "
    "footage set caption.backend.model"
)
"""What is said wherever its texts stand."""


class TransformersVlmConfig(BaseModel):
    """A vision–language model in transformers, and how it decodes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["transformers"] = "transformers"
    model: str = Field(EMBEDDED, description=f"{EMBEDDED}, a local folder, or a hub id")
    revision: str | None = Field(
        None, description="commit, branch or tag of a hub id; none: main. A run stays with the commit that it means"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: as the checkpoint says where the device computes in it, else float32"
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:<n>")
    temperature: float = Field(0.0, ge=0, description="0 is greedy: the same clip gives the same caption")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus of the sampling, for a temperature above 0")
    repetition_penalty: float = Field(1.0, gt=0, description="above 1 makes tokens that were written less likely")
    no_repeat_ngram_size: int = Field(0, ge=0, description="n-grams that may occur only once; 0 allows all")
    seed: int = Field(0, description="of the sampling, for a temperature above 0")
    trust_remote_code: bool = Field(False, description="run code that comes with a hub id or folder")

    @property
    def name(self) -> str:
        """Last part of the model's name, as tables are called by it."""
        return Path(self.model).name

    @property
    def caveat(self) -> str | None:
        """What a reader of the captions must know."""
        return EMBEDDED_CAVEAT if self.model == EMBEDDED else None

    @property
    def folder(self) -> Path | None:
        """Where a model lies that is no hub id.

        Raises:
            MissingWeights: the embedded captioner was not assembled.
        """
        if self.model == EMBEDDED:
            from caption.llava.assemble import resolve

            return resolve()
        folder = Path(self.model).expanduser()
        return folder if folder.is_dir() else None

    def pinned(self) -> "TransformersVlmConfig":
        """The same with the commit that the hub id means now, so that every worker and every rerun loads that one.

        Raises:
            MissingWeights: the embedded captioner was not assembled.
            ValueError: neither the hub nor its local cache knows the id.
        """
        if self.folder is not None:
            return self
        commit = resolve_commit(self.model, self.revision, "caption.backend.model")
        return self.model_copy(update={"revision": commit})

    def build(self) -> "CaptionBackend":
        return resolve_name("caption.backends.transformers_vlm:TransformersVlm")(self)
