"""Weights of an autoencoder of one's own as a folder.

FOLDER/model.safetensors  config.json
"""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from curate.storage.place import AnyPath, path_of
from curate.storage.publish import publish, write_text
from curate.storage.tensors import tensors_to_bytes
from train.autoencoder.network import CausalVideoAutoencoder
from train.autoencoder.network_config import NetworkConfig
from train.run.load_state import load_state

WEIGHTS_FILE = "model.safetensors"
FORMER_WEIGHTS_FILE = "reelpack_kl.safetensors"
CONFIG_FILE = "config.json"


def save(model: CausalVideoAutoencoder, folder: str | AnyPath) -> None:
    """Writes weights and codes in float16, what codes follow as it is, and `config.json` into `folder`."""
    folder = path_of(folder)
    folder.mkdir(parents=True, exist_ok=True)
    halved = {"bottleneck.codebook", *dict(model.named_parameters())}
    state = {name: v.to(torch.float16) if name in halved else v for name, v in model.state_dict().items()}
    with publish(str(folder / WEIGHTS_FILE)) as file:
        file.write(tensors_to_bytes(state))
    write_text(str(folder / CONFIG_FILE), json.dumps(model.config.model_dump(mode="json"), indent=2) + "\n")


def load(folder: str | Path) -> tuple[CausalVideoAutoencoder, str]:
    """The network in float32, evaluation mode, and the hash of its weights and configuration.

    Raises:
        ValueError: The folder lacks the weights or their configuration, or one is not of the other.
    """
    folder = Path(folder)
    former = not (folder / WEIGHTS_FILE).is_file() and (folder / FORMER_WEIGHTS_FILE).is_file()
    weights_file = FORMER_WEIGHTS_FILE if former else WEIGHTS_FILE
    for name in (weights_file, CONFIG_FILE):
        if not (folder / name).is_file():
            raise ValueError(
                f"no {name} in {folder}: expected RUN/weights, which `reelpack train-autoencoder` writes at the end"
            )
    try:
        config = NetworkConfig.model_validate_json((folder / CONFIG_FILE).read_text())
        model = CausalVideoAutoencoder(config)
        state = load_file(str(folder / weights_file))
        load_state(model, {name: v.float() if v.is_floating_point() else v for name, v in state.items()})
    except (ValueError, SafetensorError) as error:
        raise ValueError(
            f"{folder}: {weights_file} and {CONFIG_FILE} do not belong together or are damaged ({error}); train "
            "again, or take the embedded weights"
        ) from error
    digest = hashlib.sha256((folder / weights_file).read_bytes() + (folder / CONFIG_FILE).read_bytes())
    return model.eval().requires_grad_(False), digest.hexdigest()[:32]
