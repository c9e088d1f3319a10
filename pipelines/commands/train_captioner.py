"""`reelpack train-captioner`: train the embedded captioner."""

from pathlib import Path
from typing import Annotated

import typer


def train_captioner(
    out: Annotated[Path, typer.Option(help="folder for checkpoints and the resulting weights")],
    stamps: Annotated[Path, typer.Option(help="unpacked Debian package tuxpaint-stamps-default")],
) -> None:
    """Train the embedded captioner's projector and LoRA (the recipe of its card)."""
    from pipelines.drivers.recipes import captioner

    typer.echo(captioner(out, stamps))
