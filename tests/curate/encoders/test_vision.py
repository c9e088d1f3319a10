"""Features of patches of vision models of transformers, and of the embedded encoder."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from curate.encoders.efficientnet import EfficientNetConfig
from curate.encoders.vision import VisionConfig, VisionEncoder
from tests.support.vision import write_tiny_dinov2


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_dinov2(tmp_path_factory.mktemp("dinov2"))


def ready(folder: Path, **settings: object) -> VisionEncoder:
    encoder = VisionConfig(model=str(folder), device="cpu", **settings).build()  # type: ignore[arg-type]
    encoder.setup()
    return encoder


def test_they_are_the_models_own_hidden_states(dino: Path) -> None:
    from transformers import AutoModel

    images = np.random.default_rng(0).integers(0, 256, (3, 16, 48, 3), np.uint8)
    found = ready(dino, batch_size=2, side_px=28).patch_features(images)
    assert found.shape == (3, 16, 2, 6), "a picture keeps its shape"
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with torch.inference_mode():
        model = AutoModel.from_pretrained(dino).eval()
        states = model((torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - mean) / std).last_hidden_state
    np.testing.assert_allclose(found, states[:, 1:].transpose(1, 2).unflatten(2, (2, 6)).numpy(), atol=1e-4)


def test_a_fingerprint_is_of_weights_and_size_not_of_the_place(dino: Path, tmp_path: Path) -> None:
    same, other = (write_tiny_dinov2(tmp_path / str(seed), seed) for seed in (0, 1))
    names = [VisionConfig(model=str(folder)).build().fingerprint for folder in (dino, same, other)]
    assert names[0] == names[1] != names[2]
    assert VisionConfig(model=str(dino), side_px=64).build().fingerprint != names[0]


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = write_tiny_dinov2(tmp_path)
    weights = load_file(folder / "model.safetensors")
    del weights[next(name for name in weights if "attention" in name)]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="its weights lack 1 tensors"):
        ready(folder)
    bert = {"model_type": "bert", "num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2}
    (folder / "config.json").write_text(json.dumps({**bert, "vocab_size": 9}))
    with pytest.raises(ValueError, match=r"its weights lack|does not read images"):
        ready(folder)


def test_cells_of_the_embedded_encoder_divide_the_whole_picture(embedded_weights: None) -> None:
    """What is left of the middle changes cells on the left alone, and those most at the place."""
    encoder = EfficientNetConfig(device="cpu").build()
    encoder.setup()
    images = np.full((2, 32, 64, 3), 90, np.uint8)
    images[1, :, :8] = (230, 30, 30)
    plain, marked = encoder.patch_features(images)
    assert plain.shape == (1280, 6, 11)
    changed = np.abs(marked - plain).sum((0, 1))  # by column
    assert changed.argmax() <= 2 and changed[-2:].sum() < 0.1 * changed[:3].sum()
