"""`reelpack train-autoencoder`: train the embedded video autoencoder."""

from pathlib import Path
from typing import Annotated

import typer


def train_autoencoder(
    out: Annotated[Path, typer.Option(help="folder for checkpoints and the resulting weights")],
) -> None:
    """Train the embedded video autoencoder (the recipe of its card)."""
    from pipelines.drivers.recipes import autoencoder

    typer.echo(autoencoder(out))
