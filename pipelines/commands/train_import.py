"""`reelpack train-import`: convert a published DiT image model."""

from pathlib import Path
from typing import Annotated

import typer


def train_import(
    checkpoint: Annotated[str, typer.Argument(help="a published DiT: .pt or .safetensors, or a diffusers folder")],
    out: Annotated[Path, typer.Option(help="new folder for model.safetensors and config.json")],
    frames_per_patch: Annotated[int, typer.Option(min=1, help="latent frames of a patch: inflates to video")] = 1,
    pattern: Annotated[
        str,
        typer.Option(help="joint, or factorized_self_attention: adds attention along time, at first without effect"),
    ] = "joint",
    tubelet: Annotated[
        str, typer.Option(help="central or uniform: which frames of a patch of several the image model sees")
    ] = "central",
    num_heads: Annotated[int | None, typer.Option(min=1, help="attention heads, of widths that DiT has not")] = None,
) -> None:
    """Convert a published DiT image model; it gives the same outputs for single frames.

    OUT/train.yaml is the configuration of a run that begins with it: reelpack train DATASET --config OUT/train.yaml.
    """
    from pipelines.drivers.train import import_dit

    typer.echo(import_dit(checkpoint, out, frames_per_patch, pattern, tubelet, num_heads))
