"""A tiny encoded dataset, and samples of unlike shapes."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from tests.support.latents import CHANNELS, TEXT_DIM, SyntheticClip, add_latents, smooth_clips, write_dataset
from train.packing.batch import Sample

# A deadline per example would test how busy the machine is.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    """20 training and 4 held-out clips."""
    return str(write_dataset(tmp_path_factory.mktemp("dataset"), smooth_clips(24, num_val=4)))


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> str:
    """lat0 at 12 frames per second; the same with half the sides, of every second clip; at 6 and at 3 per second."""
    root = write_dataset(tmp_path_factory.mktemp("stored"), smooth_clips(24, num_val=4))
    add_latents(root, "half", lambda latent: latent[:, :, ::2, ::2], every=2)
    add_latents(root, "slow", lambda latent: latent[:, ::2], slower=2)
    add_latents(root, "slowest", lambda latent: latent[:, ::2], of="slow", slower=2)
    return str(root)


@pytest.fixture
def make_clips() -> Callable[..., list[SyntheticClip]]:
    return smooth_clips


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[[list[SyntheticClip]], Path]:
    return lambda clips: write_dataset(tmp_path / "dataset", clips)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def ragged_samples(seed: int = 0) -> list[Sample]:
    """Videos and images of unlike grids, captions of unlike length, one without; unlike timesteps and rates."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(3, 4, 6), (1, 4, 4), (1, 4, 4), (2, 6, 2), (4, 2, 2), (1, 2, 8)]
    text_lengths = [3, 1, None, 5, 2, 4]
    return [
        Sample(
            clip_id=f"clip-{i}",
            latent=torch.randn(CHANNELS, *shape, generator=generator),
            noise=torch.randn(CHANNELS, *shape, generator=generator),
            timestep=(i + 0.5) / len(shapes),
            fps=0.0 if shape[0] == 1 else 8.0 * (i + 1),
            text=None if n is None else torch.randn(n, TEXT_DIM, generator=generator),
        )
        for i, (shape, n) in enumerate(zip(shapes, text_lengths, strict=True))
    ]


@pytest.fixture
def samples() -> list[Sample]:
    return ragged_samples()
