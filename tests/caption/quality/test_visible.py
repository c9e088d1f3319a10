import cv2
import numpy as np
import pytest

from caption.quality.visible import VisibleConfig
from curate.dataset.captions import CaptionStatus

RNG = np.random.default_rng(0)


def codes(frames: np.ndarray, **changes: float) -> list[str]:
    found = list(VisibleConfig(**changes).build().of_frames(frames))
    assert all(finding.status == CaptionStatus.BLANK for finding in found)
    return [finding.code for finding in found]


def image(height: int = 360, width: int = 640) -> np.ndarray:
    """Blocks of many colors and sizes under a soft gradient: edges as in an image, none of them at every pixel."""
    frame = np.linspace(40, 200, width)[None, :, None].repeat(height, 0).repeat(3, 2).astype(np.uint8)
    for _ in range(60):
        top, left = RNG.integers(0, height - 20), RNG.integers(0, width - 20)
        frame[top : top + RNG.integers(8, 90), left : left + RNG.integers(8, 90)] = RNG.integers(0, 256, 3)
    return frame


def flat(luma: int, noise: float = 0.0) -> np.ndarray:
    return np.clip(luma + RNG.normal(0, noise, (360, 640, 3)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", [(360, 640), (1080, 1920), (48, 64), (64, 48)])
def test_a_image_is_seen_at_any_size(size):
    assert not codes(image(*size)[None] if min(size) > 100 else _small(size)[None])


@pytest.mark.parametrize("frame", [flat(0), flat(255), flat(128), flat(3, noise=3.0)])
def test_black_white_gray_and_grain_show_nothing(frame):
    assert codes(np.stack([frame] * 4)) == ["no_contrast"]


@pytest.mark.parametrize("size", [(360, 640), (1080, 1920)])
@pytest.mark.parametrize("share", [30, 20, 10])
def test_blur_shows_nothing(size, share):
    sharp = image(*size)
    blurred = cv2.GaussianBlur(sharp, (0, 0), size[0] / share)
    assert codes(blurred[None]) == ["blurred"]


def test_one_frame_that_shows_something_is_enough():
    assert not codes(np.stack([flat(0), image(), flat(0)]))


def test_a_text_on_black_is_seen():
    card = flat(0)
    cv2.putText(card, "THE END", (180, 200), cv2.FONT_HERSHEY_SIMPLEX, 2, (255, 255, 255), 3)
    assert not codes(card[None])


def test_zero_lets_all_through():
    assert not codes(flat(0)[None], min_contrast=0, min_sharpness=0)


def _small(size: tuple[int, int]) -> np.ndarray:
    return np.asarray(cv2.resize(image(), size[::-1], interpolation=cv2.INTER_AREA))
