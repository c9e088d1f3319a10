"""Where a released model lies: a folder, a pipeline's folder, or a hub id of either."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.encoders.hub import resolve_commit
from curate.encoders.pipeline_folder import PIPELINE

PART = "transformer"


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A model of diffusers on this machine."""

    folder: Path  # of the model
    config: Mapping[str, Any]  # its config.json
    parts: frozenset[str]  # folders of its pipeline; empty: it is in none


def find(name: str, subfolder: str | None = None) -> Source | None:
    """The model of that name; that of a hub id is downloaded. None: the name is of a file, or of nothing.

    Args:
        name: local path or hub id, of a model or of a pipeline.
        subfolder: of the model in a pipeline; None: `transformer`.

    Raises:
        ValueError: the hub does not give it, or it has no config.json.
    """
    root = Path(name).expanduser()
    if not root.is_dir():
        if root.exists() or root.suffix or root.is_absolute() or name.startswith(".") or name.count("/") != 1:
            return None
        root = _downloaded(name, subfolder or PART)
    folder = root / (subfolder or PART)
    if not folder.is_dir():
        if subfolder:
            raise ValueError(f"{root}: no folder {subfolder}; give --subfolder one of the pipeline's transformers")
        folder = root
    index = _json(root / PIPELINE)
    parts = frozenset(part for part, place in index.items() if isinstance(place, list) and place[0])
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder}: no config.json; expected a model of diffusers, or its pipeline")
    return Source(folder=folder, config=_json(folder / "config.json"), parts=parts)


def _downloaded(name: str, subfolder: str) -> Path:
    from huggingface_hub import snapshot_download

    commit = resolve_commit(name, None, "train-import")
    wanted = [PIPELINE, "config.json", "diffusion_pytorch_model*", f"{subfolder}/*", "scheduler/*"]
    try:
        return Path(snapshot_download(name, revision=commit, allow_patterns=wanted))
    except (OSError, ValueError) as error:
        raise ValueError(f"{name} is no local folder, and the hub did not give it: {error}") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        found: Any = json.loads(path.read_text()) if path.is_file() else {}
    except ValueError as error:
        raise ValueError(f"{path}: is no JSON ({error}); fetch it again") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: got a {type(found).__name__}; expected settings by name")
    return found
