"""A network of super-resolution as a folder: model.safetensors, config.json."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from curate.storage.place import AnyPath, path_of
from curate.storage.publish import publish, write_text
from curate.storage.tensors import tensors_to_bytes
from train.autoencoder.base import VideoAutoencoder
from train.autoencoder.causal_net import Stream
from train.autoencoder.pixels import to_rgb, to_video
from train.autoencoder.super_resolution.config import SuperResolutionFolderConfig
from train.autoencoder.super_resolution.network import SuperResolution
from train.autoencoder.weights_folder import CONFIG_FILE, WEIGHTS_FILE
from train.run.load_state import load_state

EMBEDDED = Path(__file__).parent / "weights"
CHUNK = 4
"""Frames at a time."""


def save(model: SuperResolution, base: VideoAutoencoder, folder: str | AnyPath) -> None:
    """Write weights in float16, and whose decoded videos they were trained on."""
    folder = path_of(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.to(torch.float16) for name, value in model.state_dict().items()}
    with publish(str(folder / WEIGHTS_FILE)) as file:
        file.write(tensors_to_bytes(state))
    shape = {name: getattr(model.config, name) for name in ("factor", "width", "num_blocks", "reduction")}
    config = SuperResolutionFolderConfig(base_name=base.name, base_fingerprint=base.fingerprint, **shape)
    write_text(str(folder / CONFIG_FILE), json.dumps(config.model_dump(mode="json"), indent=2) + "\n")


def load(name: str, device: torch.device) -> tuple[SuperResolution, SuperResolutionFolderConfig]:
    """The network in float32, evaluation mode.

    Args:
        name: `embedded`, or a folder that `reelpack train-autoencoder` wrote with train_autoencoder.super_resolution.

    Raises:
        ValueError: no network of super-resolution is there, or its files are not of each other.
    """
    folder = EMBEDDED if name == "embedded" else Path(name)
    try:
        written = json.loads((folder / CONFIG_FILE).read_text())
        if written.get("kind") != SuperResolutionFolderConfig.model_fields["kind"].default:
            raise ValueError(f"{CONFIG_FILE} is of something else, kind {written.get('kind')}")
        config = SuperResolutionFolderConfig.model_validate(written)
        model = SuperResolution(config)
        load_state(model, {key: value.float() for key, value in load_file(str(folder / WEIGHTS_FILE)).items()})
    except (OSError, ValueError, AttributeError, SafetensorError) as error:
        raise ValueError(
            f"sample.super_resolution={name}: no such network there ({type(error).__name__}: {error}); expected "
            "embedded, or RUN/weights of `reelpack train-autoencoder` with train_autoencoder.super_resolution"
        ) from error
    return model.eval().requires_grad_(False).to(device), config


@torch.inference_mode()
def enlarged(model: SuperResolution, rgb: np.ndarray, device: torch.device) -> np.ndarray:
    """(T, H, W, 3) uint8 to (T, factor · H, factor · W, 3) uint8."""
    stream, parts = Stream(), []
    for start in range(0, len(rgb), CHUNK):
        parts.append(to_rgb(model(to_video(rgb[start : start + CHUNK]).to(device), stream)))
    return np.concatenate(parts)
