"""How the embedded autoencoder was trained: the recipe behind `train-autoencoder`."""

from pathlib import Path

from curate.encoders import weights
from pipelines.console.progress import console

FILM = "bbb-film"


def autoencoder(out: Path) -> Path:
    """Train the embedded autoencoder on the film; returns the folder of its weights."""
    from train.autoencoder.train import TrainAutoencoderConfig, train_autoencoder

    weights.fetch([FILM], progress=lambda line: console.print(line, highlight=False))
    return train_autoencoder(TrainAutoencoderConfig(), out)
