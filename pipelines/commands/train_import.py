"""`reelpack train-import`: convert a released model."""

from pathlib import Path
from typing import Annotated

import typer


def train_import(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="a folder or hub id of diffusers (a model or its pipeline): Wan, PixArt, Latte, DiT; or a published "
            "DiT: .pt or .safetensors"
        ),
    ],
    out: Annotated[Path, typer.Option(help="new folder for model.safetensors and config.json")],
    subfolder: Annotated[
        str | None, typer.Option(help="the model's in a pipeline of several; by default transformer")
    ] = None,
    frames_per_patch: Annotated[int, typer.Option(min=1, help="DiT: latent frames of a patch: inflates to video")] = 1,
    pattern: Annotated[
        str,
        typer.Option(
            help="DiT: joint, or factorized_self_attention: adds attention along time, at first without effect"
        ),
    ] = "joint",
    tubelet: Annotated[
        str, typer.Option(help="DiT: central or uniform: which frames of a patch of several the image model sees")
    ] = "central",
    num_heads: Annotated[int | None, typer.Option(min=1, help="attention heads, of widths that DiT has not")] = None,
) -> None:
    """Convert a released model; it gives the same outputs.

    OUT/train.yaml is the configuration of a run that begins with it: reelpack train DATASET --config OUT/train.yaml.
    Of a pipeline it also names autoencoder and text encoder: reelpack encode DATASET --config OUT/train.yaml.
    """
    from pipelines.drivers.train_import import import_model

    typer.echo(
        import_model(
            checkpoint,
            out,
            subfolder=subfolder,
            frames_per_patch=frames_per_patch,
            pattern=pattern,
            tubelet=tubelet,
            num_heads=num_heads,
        )
    )
