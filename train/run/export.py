"""A trained run as a folder that stands alone: weights and everything that is needed to sample with them.

    OUT/model.safetensors  config.json

`Denoiser.from_pretrained(OUT)` gives the model; `config.json` also says which latents, text encoder and objective it
goes with, as the run's own `run.json` and `config.yaml` do. `reelpack sample`, `serve` and `evaluate` take the folder
as they take a run. `export_to_diffusers` writes a folder that the model's class of diffusers opens, or its pipeline.
Low-rank updates are added to the weights, or are a file of their own.
"""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from train.convert import dit
from train.convert.diffusers_folder import to_diffusers, write_folder
from train.convert.pipeline import ENTRY, Pipeline, released
from train.convert.source import PART
from train.convert.weights import STEM
from train.finetune.adapt import adapted_layers, merge
from train.finetune.files import save, updates_of, write_updates
from train.finetune.foreign import Layout, to_foreign
from train.model.base import Denoiser, described
from train.model.dit import DiT
from train.run.folder import chosen_step, load_model, run_folder
from train.run.load_state import load_state, parameters_on_meta

NO_PIPELINE = "none"
DType: TypeAlias = Literal["float32", "bfloat16", "float16"]


def export_run(
    run: str | Path,
    out: str | Path,
    *,
    weights: Literal["ema", "model"] = "ema",
    step: int | None = None,
    dtype: DType = "float32",
    merges: bool = False,
) -> Path:
    """Write the newest checkpoint of `run`, or that after `step`, to `out`.

    Args:
        run: directory of a training run.
        out: a new folder.
        weights: the averaged ones, or the last.
        step: of a checkpoint; None: the newest.
        dtype: of the written parameters. Whoever reads them has float32 again.
        merges: add the updates of a run that trained with LoRA to the weights.

    Raises:
        ValueError: no run, no such checkpoint in it, `out` holds something else, or the run has updates that are not
            to be merged, or none.
    """
    out = _new_folder(out, "model.safetensors")
    folder = run_folder(run)
    model, config, record = load_model(folder, weights=weights, step=step)
    _merge(run, model, merges)
    origin = released(folder)
    model.save_pretrained(
        out,
        dtype=getattr(torch, dtype),
        weights=weights,
        step=chosen_step(folder, step),
        train=config.model_dump(mode="json"),
        objective=config.objective.model_dump(mode="json"),
        **dataclasses.asdict(dataclasses.replace(record, base=None)),  # whose weights are in the model
        **({} if origin is None else {ENTRY: dataclasses.asdict(origin)}),
    )
    return out


def export_to_diffusers(
    run: str | Path,
    out: str | Path,
    *,
    weights: Literal["ema", "model"] = "ema",
    step: int | None = None,
    dtype: DType | None = None,
    merges: bool = False,
    pipeline: str | None = None,
    links: bool = False,
) -> Path:
    """Write what `DiffusionPipeline.from_pretrained` opens, or `from_pretrained` of the model's class.

    Args:
        run: as for `export_run`, or a folder of `train-import` or `train-export`.
        out: a new folder.
        weights: of a run.
        step: of a run.
        dtype: of the written parameters; None: as they are.
        merges: as for `export_run`.
        pipeline: folder or hub id of a pipeline, whose other parts go along; "none": the model's folder alone; None:
            the pipeline that the model was imported from, if it was.
        links: symbolic links to the other parts, instead of copies.

    Raises:
        ValueError: as `export_run`, no class of diffusers has the model's outputs, or there is no such pipeline, or
            one of another model.
    """
    folder, out = run_folder(run), Path(out)
    origin = released(folder)
    around = None
    if pipeline is not None and pipeline != NO_PIPELINE:
        around = Pipeline.find(pipeline, None, PART if origin is None else origin.subfolder)
    elif pipeline is None and origin is not None and origin.pipeline is not None:
        around = Pipeline.find(origin.pipeline, origin.revision, origin.subfolder)
    if links and around is None:
        raise ValueError("--link links the other parts of a pipeline, and none is known; give --pipeline")
    if around is None:
        out = _new_folder(out, f"{STEM}.safetensors")
    elif any(out.glob("*")):
        raise ValueError(f"{out} is not empty; a pipeline is written into a new folder")
    if (Path(run) / "model.safetensors").is_file():
        model = _opened(Path(run))
    else:
        model, _, _ = load_model(folder, weights=weights, step=step)
    _merge(run, model, merges)
    if not isinstance(model, DiT):
        raise ValueError(f"{run}: no class of diffusers has the outputs of a {model.config.kind}")
    known = around.config if around is not None else None if origin is None else origin.config
    convert = to_diffusers if model.config.num_classes is None else dit.to_diffusers
    state, config = convert(model, known)
    kind = None if dtype is None else getattr(torch, dtype)
    state = {name: tensor.to(kind or tensor.dtype) for name, tensor in state.items()}
    if around is None:
        write_folder(out, state, config)
        return out
    around.check(config)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a killed export
    write_folder(partial / around.subfolder, state, config)
    around.copy(partial, config, links=links)
    if out.exists():
        out.rmdir()
    partial.rename(out)
    return out


def _merge(run: str | Path, model: Denoiser, merges: bool) -> None:
    """Raises ValueError: there are updates that are not to be merged, or none."""
    has_updates = any(True for _ in adapted_layers(model))
    if has_updates != merges:
        has = "has low-rank updates" if has_updates else "has no low-rank updates"
        remedy = "leave --merge out" if merges else "--merge adds them to the weights, --lora FILE writes them alone"
        raise ValueError(f"{run} {has}; {remedy}")
    if has_updates:
        merge(model)


def _opened(folder: Path) -> Denoiser:
    """The model of a folder, whose tensors keep their types."""
    try:
        with parameters_on_meta():
            model = described(json.loads((folder / "config.json").read_text()))
        load_state(model, load_file(folder / "model.safetensors"), assign=True)
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise ValueError(f"{folder}: cannot load a model from here ({error}); import or export it again") from error
    return model


def _new_folder(out: str | Path, weights: str) -> Path:
    """Raises ValueError: it holds something else than an export."""
    out = Path(out)
    names = {path.name for path in out.glob("[!.]*")}  # not what a killed export left
    if others := sorted(names - {weights, "config.json"}):
        raise ValueError(f"{out} holds {', '.join(others[:3])}; export into a new folder")
    return out


def export_updates(
    run: str | Path,
    out: str | Path,
    *,
    weights: Literal["ema", "model"] = "ema",
    step: int | None = None,
    to: Literal["reelpack"] | Layout = "reelpack",
) -> Path:
    """Write what a run trained with LoRA, without its base, as a file.

    Raises:
        ValueError: no run, no such checkpoint in it, a run without updates, or updates that `to` cannot hold.
    """
    out = Path(out)
    if out.suffix != ".safetensors":
        raise ValueError(f"--lora {out}: expected the name of a file that ends in .safetensors")
    folder = run_folder(run)
    model, _, record = load_model(folder, weights=weights, step=step)
    base = record.base or {}
    name = Path(base["folder"]).name if base else None  # where it is on this machine is nobody else's business
    facts = {"base": base.get("sha256"), "folder": name, "run": folder.name, "weights": weights}
    updates = updates_of(model, facts)
    if to == "reelpack":
        write_updates(out, updates)
    elif isinstance(model, DiT):
        save(out, to_foreign(updates, model, to), facts)
    else:
        raise ValueError(f"{run}: no class of diffusers has the outputs of a {model.config.kind}; leave --to out")
    return out
