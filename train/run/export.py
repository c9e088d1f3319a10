"""A trained run as a folder that stands alone: weights and everything that is needed to sample with them.

    OUT/model.safetensors  config.json

`Denoiser.from_pretrained(OUT)` gives the model; `config.json` also says which latents, text encoder and objective it
goes with, as the run's own `run.json` and `config.yaml` do. `reelpack sample`, `serve` and `evaluate` take the folder
as they take a run.
"""

import dataclasses
from pathlib import Path
from typing import Literal

import torch

from train.run.folder import checkpoint_steps, load_model, run_folder


def export_run(
    run: str | Path,
    out: str | Path,
    *,
    weights: Literal["ema", "model"] = "ema",
    step: int | None = None,
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
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
    out = Path(out)
    names = {path.name for path in out.glob("[!.]*")}  # not what a killed export left
    others = sorted(names - {"model.safetensors", "config.json"})
    if others:
        raise ValueError(f"{out} holds {', '.join(others[:3])}; export into a new folder")
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
