"""A temporal decoder as a folder: what was trained, and which base it belongs to.

FOLDER/model.safetensors  config.json  base/ (where it was copied)
"""

from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file

from curate.storage.place import AnyPath, path_of
from curate.storage.publish import publish, write_text
from curate.storage.tensors import tensors_to_bytes
from train.autoencoder.base import VideoAutoencoder
from train.autoencoder.diffusers_vae import DiffusersAutoencoder
from train.autoencoder.own import ReelpackAutoencoder
from train.autoencoder.temporal_decoder.config import TemporalDecoderConfig
from train.autoencoder.temporal_decoder.network import TemporalDecoder
from train.autoencoder.temporal_decoder.training_config import BaseConfig, FolderConfig, TrainTemporalDecoderConfig
from train.autoencoder.weights_folder import CONFIG_FILE, WEIGHTS_FILE
from train.run.load_state import load_state

BASE = "base"


def save(decoder: TemporalDecoder, settings: TrainTemporalDecoderConfig, folder: str | AnyPath) -> None:
    """Writes what was trained, in float32, and `config.json` into `folder`; by `copy_base` the base's files, too."""
    folder = path_of(folder)
    folder.mkdir(parents=True, exist_ok=True)
    base = settings.base
    if settings.copy_base:
        _copy(decoder.base, folder / BASE)
        base = _at(base, BASE)
    elif base.path is not None and Path(base.path).is_dir():
        base = base.model_copy(update={"path": str(Path(base.path).resolve())})
    with publish(str(folder / WEIGHTS_FILE)) as file:
        file.write(tensors_to_bytes(decoder.state_dict()))
    written = FolderConfig(base=base, base_fingerprint=decoder.base.fingerprint, trains=settings.trains)
    write_text(str(folder / CONFIG_FILE), written.model_dump_json(indent=2) + "\n")


def load(config: TemporalDecoderConfig, device: torch.device | None) -> TemporalDecoder:
    """The decoder in evaluation mode, with its base.

    Raises:
        ValueError: The folder lacks weights or configuration, they are not of each other, or the base is another one.
    """
    folder = Path(config.path)
    for name in (WEIGHTS_FILE, CONFIG_FILE):
        if not (folder / name).is_file():
            raise ValueError(
                f"encode.autoencoder.path: no {name} in {folder}; expected the folder that `reelpack "
                "train-autoencoder` wrote with train_autoencoder.temporal_decoder"
            )
    try:
        found = FolderConfig.model_validate_json((folder / CONFIG_FILE).read_text())
        state = load_file(str(folder / WEIGHTS_FILE))
    except (ValidationError, SafetensorError) as error:
        raise ValueError(f"{folder}: no temporal decoder, or a damaged one ({error})") from error
    base = _base(found, config, folder, device)
    decoder = TemporalDecoder(base, found.trains)
    try:
        load_state(decoder, state)
    except ValueError as error:
        raise ValueError(f"{folder}: {WEIGHTS_FILE} is not of its {CONFIG_FILE} ({error}); train again") from error
    return decoder.eval().requires_grad_(False)


def _copy(base: VideoAutoencoder, folder: AnyPath) -> None:
    """What the base was loaded from, hidden files aside."""
    assert isinstance(base, ReelpackAutoencoder | DiffusersAutoencoder)
    for file in sorted(base.folder.rglob("*")):
        name = file.relative_to(base.folder)
        if file.is_file() and not any(part.startswith(".") for part in name.parts):
            with publish(str(folder / name)) as copy:
                copy.write(file.read_bytes())


def _base(
    found: FolderConfig, config: TemporalDecoderConfig, folder: Path, device: torch.device | None
) -> VideoAutoencoder:
    settings = found.base.model_copy(update={"device": config.device})
    if config.base is not None:
        settings = settings.model_copy(update={"path": config.base})
    elif settings.path == BASE:
        settings = settings.model_copy(update={"path": str(folder / BASE)})
    where = "give its place by encode.autoencoder.base"
    try:
        base = settings.build(device)
    except ValueError as error:
        raise ValueError(f"{folder}: its base cannot be loaded ({error}); {where}") from error
    if base.fingerprint != found.base_fingerprint:
        raise ValueError(
            f"{folder}: got base {base.name} with weights {base.fingerprint}, the decoder was trained on "
            f"{found.base_fingerprint}; put them back, or {where}"
        )
    return base


def _at(base: BaseConfig, path: str) -> BaseConfig:
    """The settings of a base that lies at `path` itself."""
    alone = {"subfolder": None, "revision": None} if hasattr(base, "subfolder") else {}
    return base.model_copy(update={"path": path, **alone})
