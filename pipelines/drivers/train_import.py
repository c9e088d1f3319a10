"""A released model, or an image model of ours, to a folder of ours, with the configuration of a run that begins with
it."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast, get_args

import yaml
from pydantic import TypeAdapter

from curate.storage.publish import write_text
from train.convert.diffusers_folder import CLASS_NAMES, Imported, family_of, read_folder
from train.convert.dit import DIFFUSERS_CLASS, read_checkpoint
from train.convert.inflate import inflated
from train.convert.layouts import Tubelet
from train.convert.pipeline import ENTRY, Released
from train.convert.source import Source, find
from train.data.tasks.base import GrayVideo
from train.finetune.adapt import adapted_layers
from train.model.base import Denoiser
from train.model.config import ModelConfig
from train.objective.config import AnyObjective, DDPMConfig, ObjectiveConfig
from train.run.folder import load_model
from train.run.given import model_folder

logger = logging.getLogger(__name__)
OBJECTIVE: TypeAdapter[AnyObjective] = TypeAdapter(ObjectiveConfig)


def import_model(
    name: str,
    out: Path,
    *,
    subfolder: str | None = None,
    frames_per_patch: int = 1,
    pattern: str | None = None,
    temporal: str | None = None,
    tubelet: str = "central",
    num_heads: int | None = None,
) -> Path:
    """Convert a released model, or inflate an image model, and write the configuration of a run that starts from it.

    Args:
        name: a folder of diffusers, a hub id, a file of facebookresearch/DiT, or a run or an exported or imported
            model of ours.
        out: new folder.
        subfolder: the model's, in a pipeline of several.
        frames_per_patch: of an image model: inflates it to video.
        pattern: likewise: who sees whom.
        temporal: likewise: layers along time.
        tubelet: likewise: frames of a patch that the image model sees.
        num_heads: of a file whose width DiT does not have.

    Raises:
        ValueError: no such model, one of another class, or a part of videos that the model cannot have.
    """
    if tubelet not in get_args(Tubelet):
        raise ValueError(f"--tubelet {tubelet}: expected {' or '.join(get_args(Tubelet))}")
    inflates = (frames_per_patch, pattern, temporal) != (1, None, None)
    further: Mapping[str, Any] = {}
    about: Mapping[str, Any] = {}
    source = None if _is_ours(model_folder(name)) else find(name, subfolder)
    if source is not None:
        about = {ENTRY: asdict(Released.of(source))}
    family = None if source is None else family_of(source.config)
    if num_heads is not None and (source is not None or _is_ours(model_folder(name))):
        raise ValueError(f"{name}: --num-heads is for a file of weights; a folder's config.json names its heads")
    if source is not None and family is not None:
        if inflates and not family.of_images:
            raise ValueError(
                f"{name}: --temporal, --pattern and --frames-per-patch make a video model of an image model, and a "
                f"{family.class_name} is one of videos; leave them out"
            )
        imported = read_folder(source.folder, family, source.config)
        further = _pipeline(source, family.text, imported.model.config)
    elif _is_ours(model_folder(name)):
        if not inflates:
            raise ValueError(
                f"{name}: is a model of reelpack, which train.init takes as it is; give --temporal, --pattern or "
                "--frames-per-patch to make a video model of it"
            )
        imported, about = _own(model_folder(name))
    else:
        if source is not None and source.config.get("_class_name", DIFFUSERS_CLASS) != DIFFUSERS_CLASS:
            raise ValueError(
                f"{source.folder}: got a {source.config['_class_name']}; expected one of "
                f"{', '.join((*CLASS_NAMES, DIFFUSERS_CLASS))}"
            )
        given = {} if num_heads is None else {"num_heads": num_heads}
        model = read_checkpoint(name if source is None else source.folder, **given)
        imported = Imported(model=model, objective=DDPMConfig(learn_sigma=model.num_outputs == 2))
        further = {} if source is None else _pipeline(source, {}, model.config)
    if inflates:
        try:
            model = inflated(
                imported.model,
                temporal=temporal,
                pattern=pattern,
                frames_per_patch=frames_per_patch,
                tubelet=cast("Tubelet", tubelet),
            )
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        imported = replace(imported, model=model)
    _write(imported, out, further, about)
    return out


def _is_ours(folder: Path) -> bool:
    """A run, or what `train-export` and `train-import` write."""
    if (folder / "config.yaml").is_file():
        return True
    try:
        entries = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return False
    return isinstance(entries, dict) and str(entries.get("architecture", "")).startswith("reelpack.")


def _own(folder: Path) -> tuple[Imported, Mapping[str, Any]]:
    """The model, and what it says of latents and captions."""
    if (folder / "config.yaml").is_file():
        model, config, record = load_model(folder)
        if any(True for _ in adapted_layers(model)):
            raise ValueError(f"{folder} has low-rank updates; add them by `reelpack train-export {folder} --merge`")
        return Imported(model=model, objective=config.objective), {"latents": record.latents, "text": record.text}
    entries = json.loads((folder / "config.json").read_text())
    model = Denoiser.from_pretrained(folder)
    if "objective" not in entries:
        raise ValueError(f"{folder}/config.json: no objective; export the model again (`reelpack train-export`)")
    about = {name: entries[name] for name in ("latents", "text") if name in entries}
    return Imported(model=model, objective=OBJECTIVE.validate_python(entries["objective"])), about


def _write(imported: Imported, out: Path, further: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    objective = imported.objective.model_dump(mode="json")
    imported.model.save_pretrained(out, objective=objective, **about)
    config = imported.model.config
    given: dict[str, Any] = {
        "init": str(out.absolute()),
        "model": config.model_dump(mode="json"),
        "objective": objective,
    }
    if config.shown:
        given["data"] = {"tasks": [{"kind": "gray_video", "frames": _gray(config)}]}
    write_text(str(out / "train.yaml"), yaml.safe_dump({**further, "train": given}, sort_keys=False))


def _gray(config: ModelConfig) -> GrayVideo:
    """Learned positions tell the states of two pictures apart."""
    return "first" if config.pictures is None or config.pictures.positions is None else "both_ends"


def _pipeline(source: Source, text: Mapping[str, Any], config: ModelConfig) -> dict[str, Any]:
    """Settings of `reelpack encode` that make the latents and the caption states that the model knows."""
    settings: dict[str, Any] = {}
    if "text_encoder" in source.parts:
        settings["text"] = {"model": source.name, "subfolder": "text_encoder", **text}
    if "vae" in source.parts:
        settings["encode"] = {"autoencoder": {"kind": "diffusers", "path": source.name, "subfolder": "vae"}}
    if config.shown:
        settings.setdefault("encode", {})["gray"] = [_gray(config)]
    if config.pictures is not None and "image_encoder" in source.parts:
        settings.setdefault("encode", {})["picture"] = {"model": source.name}
    return settings
