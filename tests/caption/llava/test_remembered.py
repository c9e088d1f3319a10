"""The vision tower looks at an image once, and what it remembers is what it computes."""

import pytest
import torch

from curate.encoders import torchvision_cpu

torchvision_cpu.repair()
from caption.llava import vision  # noqa: E402
from caption.llava.vision import EfficientNetLiteVisionConfig, EfficientNetLiteVisionModel  # noqa: E402


@pytest.fixture(scope="module")
def tower() -> EfficientNetLiteVisionModel:
    torch.manual_seed(0)
    return EfficientNetLiteVisionModel(EfficientNetLiteVisionConfig(image_size=64, patch_size=32)).eval()


def test_images_that_come_again_are_not_computed_again(tower, monkeypatch):
    monkeypatch.setattr(vision, "NUM_REMEMBERED", 4)
    images = torch.randn(3, 3, 64, 64)
    numbers, pool = [], tower.pool
    with torch.inference_mode():
        expected = torch.cat([pool(image[None]) for image in images])
        monkeypatch.setattr(tower, "pool", lambda pixels: (numbers.append(len(pixels)), pool(pixels))[1])
        found = tower(images[[0, 1, 0]]).last_hidden_state
        again = tower(images[[2, 1]]).last_hidden_state
        assert numbers == [2, 1], "two of three, and one that is new"
        torch.testing.assert_close(found, tower.standardize(expected[[0, 1, 0]]))
        torch.testing.assert_close(again, tower.standardize(expected[[2, 1]]))
        tower(torch.randn(4, 3, 64, 64))
        tower(images)
    assert numbers == [2, 1, 4, 3], "the oldest are forgotten"


def test_training_remembers_nothing(tower):
    images = torch.randn(1, 3, 64, 64, requires_grad=True)
    before = len(tower._remembered)
    tower(images).last_hidden_state.sum().backward()
    assert images.grad is not None and len(tower._remembered) == before
