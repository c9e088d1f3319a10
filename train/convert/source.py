"""Where a released model lies: a folder, a pipeline's folder, or a hub id of either."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.encoders.hub import resolve_commit
from curate.encoders.pipeline_folder import PIPELINE
from curate.storage.place import AnyPath

PART = "transformer"


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A model of diffusers on this machine."""

    folder: Path  # of the model
    config: Mapping[str, Any]  # its config.json
    parts: frozenset[str]  # folders of its pipeline; empty: it is in none
    name: str  # absolute path or hub id, of the model or its pipeline
    revision: str | None  # commit of a hub id


def find(name: str, subfolder: str | None = None) -> Source | None:
    """The model of that name; that of a hub id is downloaded. None: the name is of a file, or of nothing.

    Args:
        name: local path or hub id, of a model or of a pipeline. A model's folder in its pipeline is as the pipeline.
        subfolder: of the model in a pipeline; None: `transformer`.

    Raises:
        ValueError: the hub does not give it, or it has no config.json.
    """
    root, revision = Path(name).expanduser(), None
    if root.is_dir():
        root = root.absolute()
        name = str(root)
    else:
        if root.exists() or root.suffix or root.is_absolute() or name.startswith(".") or name.count("/") != 1:
            return None
        revision = resolve_commit(name, None, "train-import")
        wanted = [PIPELINE, "config.json", "diffusion_pytorch_model*", f"{subfolder or PART}/*", "scheduler/*"]
        root = downloaded(name, revision, wanted)
    folder = root / (subfolder or PART)
    if not folder.is_dir():
        if subfolder:
            raise ValueError(f"{root}: no folder {subfolder}; give --subfolder one of the pipeline's transformers")
        folder = root
    if folder == root and root.name in parts_of(read_json(root.parent / PIPELINE)) and revision is None:
        root, name = root.parent, str(root.parent)
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder}: no config.json; expected a model of diffusers, or its pipeline")
    parts: frozenset[str] = frozenset() if folder == root else parts_of(read_json(root / PIPELINE))
    return Source(folder=folder, config=read_json(folder / "config.json"), parts=parts, name=name, revision=revision)


def parts_of(index: Mapping[str, Any]) -> frozenset[str]:
    """Folders that a model_index.json names."""
    return frozenset(part for part, place in index.items() if isinstance(place, list) and place and place[0])


def downloaded(name: str, revision: str, patterns: list[str]) -> Path:
    """Files of a hub id, as its cache has them.

    Raises:
        ValueError: the hub does not give them.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except (OSError, ValueError) as error:
        raise ValueError(f"{name} is no local folder, and the hub did not give it: {error}") from error


def read_json(path: AnyPath) -> dict[str, Any]:
    """Settings by name; none where there is no file.

    Raises:
        ValueError: it holds something else.
    """
    try:
        found: Any = json.loads(path.read_text()) if path.is_file() else {}
    except ValueError as error:
        raise ValueError(f"{path}: is no JSON ({error}); fetch it again") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: got a {type(found).__name__}; expected settings by name")
    return found
