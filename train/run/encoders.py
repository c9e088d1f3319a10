"""An imported model knows the latents and the caption states of its pipeline; those of other encoders are noise to it.

Encoders are the same if their files are. A text encoder of a hub id is known by its commit alone, and of a pipeline on
the hub no more than its transformer is here: where the two cannot be compared, both are told and the run begins.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curate.encoders.picture_states import PictureStatesConfig
from curate.encoders.text import TextEncoder
from curate.encoders.text_config import TextEncoderConfig
from train.autoencoder.config import DiffusersAutoencoderConfig
from train.autoencoder.diffusers_folder import fingerprint_of
from train.convert.diffusers_folder import family_of
from train.convert.pipeline import ENTRY, Released
from train.convert.source import read_json
from train.run.given import model_folder

logger = logging.getLogger(__name__)


def check_autoencoder(init: str, latents: Mapping[str, Any]) -> None:
    """See that latents are those of the pipeline that `train-import` took the model from.

    Args:
        init: as for `initialize`.
        latents: their fingerprint.json.

    Raises:
        ValueError: they are of another autoencoder.
    """
    origin, given = _origin(init), (latents.get("config") or {}).get("autoencoder")
    if origin is None or given is None:
        return
    there, here = f"{origin.pipeline}/vae", _name(given.get("path") or given["kind"], given.get("subfolder"))
    same: bool | None = here == there
    if given["kind"] == "diffusers" and not same:
        settings, folder = DiffusersAutoencoderConfig.model_validate(given), Path(there)
        expected = fingerprint_of(folder, settings) if folder.is_dir() else None
        same = None if expected is None else expected == latents.get("autoencoder_fingerprint")
    told = f"its model knows latents of {there}, and the dataset has those of {here}"
    remedy = "Encode the dataset with that autoencoder, or set train.init_latents=other: it then learns the new space"
    _refuse(init, same, told, remedy)


def check_pictures(init: str, latents: Mapping[str, Any]) -> None:
    """The same of states of pictures, where latents have them (`encode.picture`).

    Raises:
        ValueError: they are of another image encoder, or of pictures that were prepared otherwise.
    """
    origin, given = _origin(init), (latents.get("config") or {}).get("picture")
    if origin is None or origin.pipeline is None or given is None:
        return
    config = PictureStatesConfig.model_validate(given)
    there, here = origin.pipeline, config.model
    same: bool | None = True if here == there else None
    if not same and Path(there).is_dir() and not _is_hub_id(here):
        expected = PictureStatesConfig(model=there, device="cpu").build()
        same = expected.fingerprint == latents.get("picture_fingerprint")
    remedy = (
        f"Set encode.picture.model={there} and encode the dataset again, or set train.init_latents=other: it then "
        "learns the new states"
    )
    told = f"its model knows states of pictures of {there}, and the dataset has those of {here}"
    _refuse(init, same, told, remedy)


def check_text_encoder(init: str, text: Mapping[str, Any]) -> None:
    """The same of caption states.

    Raises:
        ValueError: they are of another text encoder, or of padding that it is not shown.
    """
    origin = _origin(init)
    if origin is None or not text.get("config"):
        return
    given = TextEncoderConfig.model_validate(text["config"])
    family = family_of(origin.config)
    padding = "none" if family is None else family.text.get("padding", "none")
    remedy = (
        "Encode the captions with that text encoder (reelpack encode DATASET --config IMPORT/train.yaml), or set "
        "train.init_text=other: it then learns the new states"
    )
    there, here = f"{origin.pipeline}/text_encoder", _name(given.model, given.subfolder)
    if given.padding != padding:
        told = f"its model knows caption states of text.padding={padding}, and the dataset has {given.padding}"
        _refuse(init, False, told, remedy)
    same: bool | None = here == there
    if not same and Path(there).is_dir() and not _is_hub_id(given.model):
        expected = given.model_copy(update={"model": origin.pipeline, "subfolder": "text_encoder"})
        same = TextEncoder(expected).fingerprint == text.get("encoder_fingerprint")
    elif not same:
        same = None
    _refuse(init, same, f"its model knows caption states of {there}, and the dataset has those of {here}", remedy)


def _origin(init: str) -> Released | None:
    """The pipeline of an imported model; None: it is none, or was trained on since."""
    entries = read_json(model_folder(init) / "config.json")
    if ENTRY not in entries or "latents" in entries:
        return None
    origin = Released(**entries[ENTRY])
    return None if origin.pipeline is None else origin


def _is_hub_id(model: str) -> bool:
    return model.count("/") == 1 and not model.startswith(".") and not Path(model).is_dir()


def _name(path: str, subfolder: str | None) -> str:
    return path if subfolder is None else f"{path}/{subfolder}"


def _refuse(init: str, same: bool | None, told: str, remedy: str) -> None:
    """`same`: None: nothing says."""
    if same is None:
        logger.warning("train.init=%s: %s; whether the two are the same is not known here", init, told)
    elif not same:
        raise ValueError(f"train.init={init}: {told}. {remedy}")
