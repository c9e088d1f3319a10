"""How the embedded weights were trained: the recipes behind `train-captioner` and `train-autoencoder`."""

from pathlib import Path

from curate.encoders import weights
from pipelines.console.progress import console

FILM = "bbb-film"


def captioner(out: Path, stamps: Path) -> Path:
    """Train the embedded captioner on the film and the stamps; returns the folder of its weights."""
    from caption.llava.train import train

    _fetch_film()
    console.print(train(out, stamps))
    return out / "weights"


def autoencoder(out: Path) -> Path:
    """Train the embedded autoencoder on the film; returns the folder of its weights."""
    from train.autoencoder.train import TrainAutoencoderConfig, train_autoencoder

    _fetch_film()
    return train_autoencoder(TrainAutoencoderConfig(), out)


def _fetch_film() -> None:
    weights.fetch([FILM], progress=lambda line: console.print(line, highlight=False))
