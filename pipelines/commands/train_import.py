"""`reelpack train-import`: convert a released model, or make a video model of an image model."""

from pathlib import Path
from typing import Annotated

import typer


def train_import(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="a folder or hub id of diffusers (a model or its pipeline): Wan, PixArt, Latte, LTX, Sana, DiT; a "
            "published DiT: .pt or .safetensors; or, to inflate it, an image run or model of reelpack"
        ),
    ],
    out: Annotated[Path, typer.Option(help="new folder for model.safetensors and config.json")],
    subfolder: Annotated[
        str | None, typer.Option(help="the model's in a pipeline of several; by default transformer")
    ] = None,
    temporal: Annotated[
        str | None,
        typer.Option(
            help="image model: attention, convolution or both: layers along time, at first without effect; "
            "attention of a transformer stays within frames"
        ),
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(
            help="image transformer: spatial (with --temporal the default), joint, or factorized_self_attention: a "
            "second attention along time in each block, at first without effect"
        ),
    ] = None,
    frames_per_patch: Annotated[int, typer.Option(min=1, help="image transformer: latent frames of a patch")] = 1,
    tubelet: Annotated[
        str, typer.Option(help="central or uniform: which frames of a patch of several the image model sees")
    ] = "central",
    num_heads: Annotated[int | None, typer.Option(min=1, help="attention heads, of widths that DiT has not")] = None,
) -> None:
    """Convert a released model, with equal outputs, or make a video model of an image model.

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
            temporal=temporal,
            tubelet=tubelet,
            num_heads=num_heads,
        )
    )
