"""The model that a fine-tuned run begins with, whose frozen weights no checkpoint has: known by its fingerprint."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from curate.storage.place import AnyPath
from train.run.given import model_folder

LINK = "base"
"""Name of the folder, or of a link to it, that is looked for in the run."""


def fingerprint(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """SHA-256 of weights, in the order of their names: of these names, shapes and values, as float32."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy())
    return digest.hexdigest()


def folder_fingerprint(folder: str | Path) -> str:
    """Of the weights of an exported or imported model.

    Raises:
        ValueError: there are none.
    """
    path = model_folder(folder) / "model.safetensors"
    try:
        with safe_open(path, framework="pt") as file:
            return fingerprint((name, file.get_tensor(name)) for name in sorted(file.keys()))
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"train.init={folder}: no model here ({type(error).__name__}: {error}); expected the config.json and "
            "model.safetensors that `reelpack train-export` and `reelpack train-import` write"
        ) from error


def base_record(folder: str | Path) -> dict[str, Any]:
    """What `run.json` says of the base."""
    return {"folder": str(model_folder(folder).resolve()), "sha256": folder_fingerprint(folder)}


def find_base(run: AnyPath, base: dict[str, Any], init: str | None) -> Path:
    """The folder of the base of a run, where it was, where `train.init` says, or in the run.

    Raises:
        ValueError: it is in none of them, or what is there is another model.
    """
    inside = [run / LINK] if isinstance(run, Path) else []
    candidates = dict.fromkeys([*inside, Path(base["folder"]), *([model_folder(init)] if init else [])])
    told = []
    for folder in candidates:
        if not (folder / "model.safetensors").exists():
            told.append(f"{folder} is not there")
        elif (found := folder_fingerprint(folder)) != base["sha256"]:
            told.append(f"{folder} has {found[:12]}")
        else:
            return folder
    raise ValueError(
        f"{run}: its checkpoints hold what was trained, and the rest is a base of fingerprint {base['sha256'][:12]}, "
        f"which was not found ({'; '.join(told)}); put it back, or put a link to its folder at {run / LINK}"
    )
