import cv2
import numpy as np
import pytest

from curate.scores.frames import ClipFrames
from curate.scores.static_overlay import StaticOverlayConfig

SHAPE = (144, 256)
LOGO = (slice(10, 30), slice(200, 240))
LOGO_AREA = 20 * 40 / (144 * 256)


def moving(num_frames: int = 8, seed: int = 0) -> np.ndarray:
    """A camera that pans over a textured ground: (T, 144, 256, 3)."""
    rng = np.random.default_rng(seed)
    ground = cv2.GaussianBlur(rng.integers(0, 256, (300, 600, 3), np.uint8), (0, 0), 5)
    ground = cv2.normalize(ground, None, 30, 200, cv2.NORM_MINMAX)
    return np.stack([ground[20 * t : 20 * t + 144, 40 * t : 40 * t + 256] for t in range(num_frames)])


def with_logo(frames: np.ndarray, opacity: float = 1.0) -> np.ndarray:
    stamp = np.zeros(SHAPE, np.uint8)
    cv2.rectangle(stamp, (202, 12), (237, 27), 255, 2)
    cv2.putText(stamp, "TV", (208, 25), cv2.FONT_HERSHEY_SIMPLEX, 0.45, 255, 1)
    alpha = (stamp / 255 * opacity)[..., None]
    return (frames * (1 - alpha) + 255 * alpha).astype(np.uint8)


def letterboxed(frames: np.ndarray) -> np.ndarray:
    boxed = frames.copy()
    boxed[:, :20] = boxed[:, -20:] = 0
    return boxed


def overlay(frames: np.ndarray) -> float:
    ((name, value),) = StaticOverlayConfig().build().score([ClipFrames(frames)])[0].items()
    assert name == "static_overlay" and isinstance(value, float)
    return value


@pytest.mark.parametrize("seed", range(3))
def test_moving_pictures_have_none_with_and_without_bars(seed: int) -> None:
    assert overlay(moving(seed=seed)) == 0
    assert overlay(letterboxed(moving(seed=seed))) == 0


@pytest.mark.parametrize("opacity", [1.0, 0.6])
@pytest.mark.parametrize("seed", range(3))
def test_a_logo_is_found_and_its_area_is_about_right(seed: int, opacity: float) -> None:
    assert overlay(with_logo(moving(seed=seed), opacity)) == pytest.approx(LOGO_AREA, rel=0.6)


def test_it_is_found_where_it_is_not_elsewhere() -> None:
    scorer = StaticOverlayConfig().build()
    mask = scorer._mask(ClipFrames(with_logo(moving())).gray)
    assert mask[LOGO].sum() == mask.sum() > 0


def test_nothing_can_be_told_of_what_stands_still() -> None:
    still = with_logo(moving(1))
    assert overlay(still) == overlay(np.repeat(still, 8, axis=0)) == overlay(with_logo(moving(2))) == 0


def test_the_background_of_a_fixed_camera_is_no_overlay() -> None:
    frames = np.repeat(moving(1), 8, axis=0).copy()
    for t, frame in enumerate(frames):
        cv2.circle(frame, (20 + 30 * t, 100), 15, (250, 250, 250), -1)
    assert overlay(frames) == 0


def test_the_film_has_none(film: list[ClipFrames]) -> None:
    assert max(overlay(clip.rgb) for clip in film) < 0.01
