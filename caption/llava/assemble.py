"""The embedded captioner as a checkpoint: parts from the weights cache, plus what this project trained.

The result is an ordinary folder that transformers' `AutoProcessor` and `AutoModelForImageTextToText` load, once
`caption.llava.vision` is imported. It appears by one rename and is named by what it was made of.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from filelock import FileLock

from caption.llava.parts import IMAGE_SIZE_PX, PATCH_SIZE_PX, Parts, build_parts
from curate.encoders import weights
from curate.encoders.fingerprint import path_digest
from curate.encoders.manifest import EFFICIENTNET_LITE0, SMOLLM2
from curate.encoders.weights import MissingWeights
from curate.schema import content_digest

NAME = "reelpack-llava"
DELTAS = Path(__file__).parent / "weights"
"""Projector, channel statistics and LoRA adapter: what `caption.llava.film.save_deltas` leaves."""

ASSEMBLY_VERSION = 1
"""Raised when equal parts are put together in another way."""


def checkpoint_folder(deltas: Path = DELTAS) -> Path:
    """Folder of the checkpoint of these deltas in the weights cache; it need not exist."""
    parts = (member.sha256 for asset in (EFFICIENTNET_LITE0, SMOLLM2) for member in asset.members)
    digest = content_digest(
        NAME, str(ASSEMBLY_VERSION), str(IMAGE_SIZE_PX), str(PATCH_SIZE_PX), path_digest(deltas), *parts
    )
    return weights.cache_dir() / f"{NAME}-{digest[:12]}"


def resolve() -> Path:
    """The assembled checkpoint.

    Raises:
        MissingWeights: it was not assembled.
    """
    folder = checkpoint_folder()
    if not folder.is_dir():
        raise MissingWeights(
            f"weights {NAME!r}: {folder} is not there; `reelpack weights` fetches its parts and puts them together. "
            "REELPACK_CACHE names another cache folder"
        )
    return folder


def assemble(deltas: Path = DELTAS) -> Path:
    """Put the checkpoint together in the weights cache (half a minute of CPU, 300 MB); does nothing if it is there.

    Raises:
        MissingWeights: a part is not in the cache.
    """
    folder = checkpoint_folder(deltas)
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{NAME}.lock"):
        if folder.is_dir():  # another process made it meanwhile
            return folder
        for leftover in folder.parent.glob(f".{NAME}.tmp-*"):  # of a killed process: no other holds the lock
            shutil.rmtree(leftover)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{NAME}.tmp-") as temporary:
            staged = Path(temporary) / "staged"
            parts = merge(build_parts(), deltas)
            to_storage_dtype(parts.model).save_pretrained(staged)
            parts.processor.save_pretrained(staged)
            staged.rename(folder)
    return folder


def merge(parts: Parts, deltas: Path = DELTAS) -> Parts:
    """The parts with trained projector and channel statistics, and the LoRA updates added to what they adapt."""
    from peft import PeftModel
    from safetensors.torch import load_file

    inner = parts.model.model
    state = {name: value.float() for name, value in load_file(deltas / "projector.safetensors").items()}
    for name in ("channel_mean", "channel_std"):
        getattr(inner.vision_tower, name).copy_(state.pop(name))
    inner.multi_modal_projector.load_state_dict({name.removeprefix("projector."): v for name, v in state.items()})
    adapted = PeftModel.from_pretrained(inner.language_model, str(deltas / "lora"))
    inner.language_model = adapted.merge_and_unload()
    parts.model.tie_weights()
    return parts


def to_storage_dtype(model: Any) -> Any:
    """bfloat16, except the vision tower, which stays float32 in every use."""
    import torch

    for part in (model.model.multi_modal_projector, model.model.language_model, model.lm_head):
        part.to(torch.bfloat16)
    model.tie_weights()
    model.config.dtype = torch.bfloat16
    return model
