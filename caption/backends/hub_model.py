"""Settings of a model that is a local folder or is on the Hugging Face hub."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from curate.encoders.hub import resolve_commit


class HubModelConfig(BaseModel):
    """Which model a backend loads in its own process; a part of its `BackendSettings`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    model: str = Field(description="a local folder or a hub id")
    revision: str | None = Field(
        None, description="commit, branch or tag of a hub id; none: main. The first run fixes the commit"
    )

    @property
    def name(self) -> str:
        """Last part of the model's name."""
        return Path(self.model).name

    @property
    def caveat(self) -> str | None:
        return None

    @property
    def folder(self) -> Path | None:
        """Folder of the model; None for a hub id."""
        folder = Path(self.model).expanduser()
        return folder if folder.is_dir() else None

    def pinned(self) -> Self:
        """See `BackendSettings`: the commit of a hub id."""
        if self.folder is not None:
            return self
        commit = resolve_commit(self.model, self.revision, "caption.backend.model")
        return self.model_copy(update={"revision": commit})
