from collections.abc import Callable

import cv2
import numpy as np
import pytest

from curate.encoders.base import EncoderPool
from curate.scores.brisque import BrisqueConfig, BrisqueScorer, brisque_features, fit_asymmetric_gaussian
from curate.scores.frames import ClipFrames

# cv2.quality.QualityBRISQUE.computeFeatures of opencv-contrib-python-headless 5.0.0.93, of `picture()`.
OPENCV_FEATURES = [
    3.102, 0.2191, 0.911, 0.1455, 0.0087, 0.0925, 0.899, 0.1398, 0.0102, 0.0927, 0.936, 0.0905, 0.0189, 0.0717,
    0.933, 0.0878, 0.0194, 0.0706, 3.555, 0.4464, 1.017, 0.1501, 0.0954, 0.2706, 0.998, 0.1465, 0.0963, 0.2681,
    1.000, -0.0162, 0.1848, 0.1656, 1.007, -0.0125, 0.1848, 0.1699,
]  # fmt: skip


def picture() -> np.ndarray:
    noise = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (144, 192), np.uint8), (0, 0), 1.5)
    ramp = np.broadcast_to((np.arange(192) * 255 // 191).astype(np.uint8), (144, 192))
    gray = cv2.addWeighted(noise, 1.5, ramp, 0.5, -60)
    gray[40:100, 60:120] //= 2
    return gray


def test_features_are_those_of_another_implementation() -> None:
    features = brisque_features(picture())
    shapes = [0, *range(2, 18, 4), 18, *range(20, 36, 4)]
    others = sorted(set(range(36)) - set(shapes))
    np.testing.assert_allclose(features[others], np.array(OPENCV_FEATURES)[others], atol=2e-3)
    # OpenCV counts pixels that a shift pushed out as products of 0, which lowers the shapes of products a little.
    np.testing.assert_allclose(features[shapes], np.array(OPENCV_FEATURES)[shapes], rtol=0.06)


@pytest.mark.parametrize(("shape", "left", "right"), [(2.0, 1.0, 1.0), (1.0, 0.5, 0.5), (2.0, 0.5, 1.5)])
def test_the_fit_finds_the_distribution_that_samples_came_from(shape: float, left: float, right: float) -> None:
    rng = np.random.default_rng(0)
    size = 400_000
    draw = np.abs(rng.normal(size=size)) if shape == 2 else rng.exponential(size=size) / np.sqrt(2)
    side = rng.random(size) < left / (
        left + right
    )  # a side weighs as its deviation, so that the density is continuous
    got = fit_asymmetric_gaussian(np.where(side, -draw * left, draw * right))
    assert got == pytest.approx((shape, left, right), rel=0.02)


@pytest.fixture(scope="module")
def scorer(embedded_weights: None) -> BrisqueScorer:
    built = BrisqueConfig().build()
    built.setup(EncoderPool())
    return built


def jpeg(frame: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def noisy(frame: np.ndarray, deviation: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, deviation, frame.shape)
    return np.clip(frame + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "worsen",
    [
        [lambda frame: cv2.GaussianBlur(frame, (0, 0), 1), lambda frame: cv2.GaussianBlur(frame, (0, 0), 3)],
        [lambda frame: jpeg(frame, 25), lambda frame: jpeg(frame, 5)],
        [lambda frame: noisy(frame, 15), lambda frame: noisy(frame, 40)],
    ],
    ids=["blur", "jpeg", "noise"],
)
def test_what_is_done_to_a_clip_shows_and_more_of_it_shows_more(
    scorer: BrisqueScorer, film: list[ClipFrames], worsen: list[Callable[[np.ndarray], np.ndarray]]
) -> None:
    for clip in film:
        versions = [clip, *(ClipFrames(np.stack([change(frame) for frame in clip.rgb])) for change in worsen)]
        clean, some, much = (score["brisque"] for score in scorer.score(versions))
        assert clean + 3 < some < much
