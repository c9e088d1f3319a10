"""A trained run as a folder that stands alone: weights and everything that is needed to sample with them.

    OUT/model.safetensors  config.json

`Denoiser.from_pretrained(OUT)` gives the model; `config.json` also says which latents, text encoder and objective it
goes with, as the run's own `run.json` and `config.yaml` do. `reelpack sample`, `serve` and `evaluate` take the folder
as they take a run. Or a folder that the model's class of diffusers opens.
"""

import dataclasses
import json
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from train.convert import dit
from train.convert.diffusers_folder import to_diffusers, write_folder
from train.convert.weights import STEM
from train.model.base import Denoiser, described
from train.model.dit import DiT
from train.run.folder import checkpoint_steps, load_model, run_folder
from train.run.load_state import load_state, parameters_on_meta

DType: TypeAlias = Literal["float32", "bfloat16", "float16"]


def export_run(
    run: str | Path,
    out: str | Path,
    *,
    weights: Literal["ema", "model"] = "ema",
    step: int | None = None,
    dtype: DType = "float32",
) -> Path:
    """Write the newest checkpoint of `run`, or that after `step`, to `out`.

    Args:
        run: directory of a training run.
        out: a new folder.
        weights: the averaged ones, or the last.
        step: of a checkpoint; None: the newest.
        dtype: of the written parameters. Whoever reads them has float32 again.

    Raises:
        ValueError: no run, no such checkpoint in it, or `out` holds something else.
    """
    out = _new_folder(out, "model.safetensors")
    folder = run_folder(run)
    model, config, record = load_model(folder, weights=weights, step=step)
    model.save_pretrained(
        out,
        dtype=getattr(torch, dtype),
        weights=weights,
        step=checkpoint_steps(folder)[-1] if step is None else step,
        train=config.model_dump(mode="json"),
        objective=config.objective.model_dump(mode="json"),
        **dataclasses.asdict(record),
    )
    return out


def export_to_diffusers(
    run: str | Path,
    out: str | Path,
    *,
    weights: Literal["ema", "model"] = "ema",
    step: int | None = None,
    dtype: DType | None = None,
) -> Path:
    """Write what `from_pretrained` of the model's class in diffusers opens.

    Args:
        run: as for `export_run`, or a folder of `train-import` or `train-export`.
        out: a new folder.
        weights: of a run.
        step: of a run.
        dtype: of the written parameters; None: as they are.

    Raises:
        ValueError: as `export_run`, or no class of diffusers has the model's outputs.
    """
    out = _new_folder(out, f"{STEM}.safetensors")
    if (Path(run) / "model.safetensors").is_file():
        model = _opened(Path(run))
    else:
        model, _, _ = load_model(run_folder(run), weights=weights, step=step)
    if not isinstance(model, DiT):
        raise ValueError(f"{run}: no class of diffusers has the outputs of a {model.config.kind}")
    state, config = to_diffusers(model) if model.config.num_classes is None else dit.to_diffusers(model)
    kind = None if dtype is None else getattr(torch, dtype)
    write_folder(out, {name: tensor.to(kind or tensor.dtype) for name, tensor in state.items()}, config)
    return out


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
