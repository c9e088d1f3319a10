"""Tiny networks and clips for the autoencoder's tests."""

import numpy as np
import pytest
import torch

from train.autoencoder.network import CausalVideoAutoencoder
from train.autoencoder.network_config import NetworkConfig


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def tiny_config() -> NetworkConfig:
    return NetworkConfig(
        latent_channels=4,
        widths=(8, 12, 16),
        encoder_blocks=(1, 1, 1),
        decoder_blocks=(1, 1, 1),
        latent_mean=(0.1, -0.2, 0.3, 0.0),
        latent_std=(0.5, 1.0, 2.0, 1.5),
    )


@pytest.fixture
def tiny_model(tiny_config: NetworkConfig) -> CausalVideoAutoencoder:
    """Random weights, none at zero: at zero the temporal layers would let nothing through."""
    torch.manual_seed(0)
    model = CausalVideoAutoencoder(tiny_config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.2)
    return model.eval().requires_grad_(False)


def moving_square(
    num_frames: int, height: int, width: int, *, color: tuple[int, int, int] = (220, 40, 30)
) -> np.ndarray:
    """(T, H, W, 3) uint8: a square that walks right over a blue gradient."""
    frames = np.zeros((num_frames, height, width, 3), np.uint8)
    frames[..., 2] = np.linspace(60, 200, width, dtype=np.uint8)
    side = height // 3
    for t in range(num_frames):
        x = min(2 * t, width - side)
        frames[t, side : 2 * side, x : x + side] = color
    return frames


@pytest.fixture
def square_clip() -> np.ndarray:
    return moving_square(13, 48, 64)
