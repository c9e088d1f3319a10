"""A released model to a folder of ours, with the configuration of a run that begins with it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, get_args

import yaml

from curate.storage.publish import write_text
from train.convert.diffusers_folder import CLASS_NAMES, Imported, family_of, read_folder
from train.convert.dit import DIFFUSERS_CLASS, read_checkpoint
from train.convert.layouts import Tubelet
from train.convert.source import Source, find
from train.objective.config import DDPMConfig


def import_model(
    name: str,
    out: Path,
    *,
    subfolder: str | None = None,
    frames_per_patch: int = 1,
    pattern: str = "joint",
    tubelet: str = "central",
    num_heads: int | None = None,
) -> Path:
    """Convert a released model, and write the configuration of a run that starts from it.

    Args:
        name: a folder of diffusers, a hub id, or a file of facebookresearch/DiT.
        out: new folder.
        subfolder: the model's, in a pipeline of several.
        frames_per_patch: of a class-conditional DiT: inflates it to video.
        pattern: likewise: adds attention along time.
        tubelet: likewise: frames of a patch that the image model sees.
        num_heads: of a file whose width DiT does not have.

    Raises:
        ValueError: no such model, one of another class, or a pattern under which images are not treated as before.
    """
    if tubelet not in get_args(Tubelet):
        raise ValueError(f"--tubelet {tubelet}: expected {' or '.join(get_args(Tubelet))}")
    source = find(name, subfolder)
    family = None if source is None else family_of(source.config)
    further: Mapping[str, Any] = {}
    if source is not None and family is not None:
        if (frames_per_patch, pattern, num_heads) != (1, "joint", None):
            raise ValueError(
                f"{name}: --frames-per-patch, --pattern and --num-heads are for the class-conditional DiT, and this "
                f"is a {family.class_name}; a run that begins with it sets train.model.patch and train.model.mixer"
            )
        imported = read_folder(source.folder, family, source.config)
        further = _pipeline(name, source, family.text_tokens)
    else:
        if source is not None and source.config.get("_class_name", DIFFUSERS_CLASS) != DIFFUSERS_CLASS:
            raise ValueError(
                f"{source.folder}: got a {source.config['_class_name']}; expected one of "
                f"{', '.join((*CLASS_NAMES, DIFFUSERS_CLASS))}"
            )
        model = read_checkpoint(
            name if source is None else source.folder,
            frames_per_patch=frames_per_patch,
            mixer={"kind": "attention", "pattern": pattern},
            tubelet=cast("Tubelet", tubelet),
            **({} if num_heads is None else {"num_heads": num_heads}),
        )
        imported = Imported(model=model, objective=DDPMConfig(learn_sigma=model.num_outputs == 2))
    _write(imported, out, further)
    return out


def _write(imported: Imported, out: Path, further: Mapping[str, Any]) -> None:
    objective = imported.objective.model_dump(mode="json")
    imported.model.save_pretrained(out, objective=objective)
    given = {
        "init": str(out.absolute()),
        "model": imported.model.config.model_dump(mode="json"),
        "objective": objective,
    }
    write_text(str(out / "train.yaml"), yaml.safe_dump({**further, "train": given}, sort_keys=False))


def _pipeline(name: str, source: Source, text_tokens: int) -> dict[str, Any]:
    """Settings of `reelpack encode` that make the latents and the caption states that the model knows."""
    path = str(Path(name).expanduser().absolute()) if Path(name).expanduser().is_dir() else name
    settings: dict[str, Any] = {}
    if "text_encoder" in source.parts:
        settings["text"] = {"model": path, "subfolder": "text_encoder", "max_tokens": text_tokens}
    if "vae" in source.parts:
        settings["encode"] = {"autoencoder": {"kind": "diffusers", "path": path, "subfolder": "vae"}}
    return settings
