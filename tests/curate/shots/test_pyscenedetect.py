"""PySceneDetect's detectors on the frames of a pass give what its own classes give on the same frames."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from curate.shots.adaptive import AdaptiveConfig
from curate.shots.base import Timeline
from curate.shots.content import ContentConfig, ContentWeights
from curate.shots.hash import HashConfig
from curate.shots.histogram import HistogramConfig
from curate.shots.threshold import ThresholdConfig
from curate.shots.windows import WindowedScores

FPS = Fraction(24)


def theirs(name: str, **settings: Any) -> Any:
    from scenedetect import detectors

    return getattr(detectors, name)(**settings)


def merging(mode: str) -> Any:
    from scenedetect.detector import FlashFilter

    return FlashFilter.Mode[mode]


MEMBERS: dict[str, tuple[Any, Callable[[], Any]]] = {
    "adaptive": (
        AdaptiveConfig(threshold=2.0, window_frames=2, min_content=5),
        lambda: theirs(
            "AdaptiveDetector", adaptive_threshold=2.0, window_width=2, min_content_val=5, min_scene_len=0.6
        ),
    ),
    "content": (ContentConfig(), lambda: theirs("ContentDetector", min_scene_len=0.6)),
    "content, suppressed": (
        ContentConfig(threshold=20, filter_mode="suppress", min_scene_len_s=1.0),
        lambda: theirs("ContentDetector", threshold=20, filter_mode=merging("SUPPRESS"), min_scene_len=1.0),
    ),
    "content, luma": (
        ContentConfig(weights=ContentWeights(hue=0, saturation=0)),
        lambda: theirs("ContentDetector", luma_only=True, min_scene_len=0.6),
    ),
    "content, edges": (
        ContentConfig(weights=ContentWeights(edges=2), threshold=35),
        lambda: theirs(
            "ContentDetector",
            threshold=35,
            weights=theirs("ContentDetector").Components(1, 1, 1, 2),
            min_scene_len=0.6,
        ),
    ),
    "histogram": (HistogramConfig(), lambda: theirs("HistogramDetector", min_scene_len=0.6)),
    "histogram, coarse": (
        HistogramConfig(threshold=0.1, bins=16, min_scene_len_s=0.0),
        lambda: theirs("HistogramDetector", threshold=0.1, bins=16, min_scene_len=0.0),
    ),
    "hash": (HashConfig(), lambda: theirs("HashDetector", min_scene_len=0.6)),
    "hash, fine": (
        HashConfig(threshold=0.4, size=16, lowpass=3, min_scene_len_s=0.3),
        lambda: theirs("HashDetector", threshold=0.4, size=16, lowpass=3, min_scene_len=0.3),
    ),
}
"""Name → our settings, and PySceneDetect's class with the same ones. Its least length counts in frames by default."""


def at(ticks: int, base: Fraction, fps: Fraction = FPS) -> Any:
    from scenedetect.common import FrameTimecode, Timecode

    return FrameTimecode(Timecode(pts=ticks, time_base=base), fps=fps)


def timeline(pts: np.ndarray, base: Fraction = 1 / FPS) -> Timeline:
    return Timeline(uri="film.mp4", pts=pts, end_pts=int(pts[-1]) + 1, time_base=base, fps=FPS)


def scored(config: Any, rgb: np.ndarray) -> np.ndarray:
    windows = WindowedScores(config.build())
    for frame in rgb:
        windows.add(frame)
    return windows.finish()


def expected(reference: Any, rgb: np.ndarray, pts: np.ndarray, base: Fraction) -> list[int]:
    cuts: list[int] = []
    for ticks, frame in zip(pts.tolist(), rgb, strict=True):
        bgr = np.ascontiguousarray(frame[..., ::-1])
        cuts += [cut.pts + int(pts[0]) for cut in reference.process_frame(at(ticks - int(pts[0]), base), bgr)]
    return cuts


@pytest.fixture(scope="module")
def film(draw_scenes: Callable[..., np.ndarray]) -> np.ndarray:
    """Noisy shots, some of them shorter than the least length."""
    rng = np.random.default_rng(3)
    rgb = draw_scenes([20, *rng.integers(4, 44, 11).tolist()])
    return np.clip(rgb + rng.normal(0, 8, rgb.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", MEMBERS)
def test_cuts_are_those_of_pyscenedetect(film: np.ndarray, name: str) -> None:
    config, reference = MEMBERS[name]
    scores, rng, num_cuts = scored(config, film), np.random.default_rng(7), 0
    steady, base = np.arange(len(film)) + 1000, 1 / FPS
    irregular, ms = np.cumsum(rng.choice([5, 20, 41, 90], len(film))), Fraction(1, 1000)
    for pts, unit in ((steady, base), (irregular, ms)):
        cuts = config.build().transitions(scores, timeline(pts, unit))
        assert pts[[one.first for one in cuts]].tolist() == expected(reference(), film, pts, unit)
        assert all(one.first == one.end and one.kind == "cut" for one in cuts)
        num_cuts += len(cuts)
    assert num_cuts >= 8


def test_a_scene_of_just_the_least_length_counts(draw_scenes: Callable[..., np.ndarray]) -> None:
    one, other = draw_scenes([1, 1])
    film = np.stack([other if sum(number >= cut for cut in (5, 9, 10, 15)) % 2 else one for number in range(20)])
    pts, base, config = np.arange(20), Fraction(1, 10), HashConfig(min_scene_len_s=0.5)
    cuts = [one.first for one in config.build().transitions(scored(config, film), timeline(pts, base))]
    assert cuts == expected(theirs("HashDetector", min_scene_len=0.5), film, pts, base) == [5, 10, 15]


@pytest.mark.parametrize("weights", [{}, {"value": 3.0}, {"hue": 0.0, "edges": 1.0}], ids=str)
def test_content_scores_are_those_of_pyscenedetect(film: np.ndarray, weights: dict[str, float]) -> None:
    given = ContentWeights(**weights)
    reference = theirs("ContentDetector")
    reference._weights = reference.Components(given.hue, given.saturation, given.value, given.edges)
    scores = scored(ContentConfig(weights=given), film[:60])
    for number, frame in enumerate(film[:60]):
        bgr = np.ascontiguousarray(frame[..., ::-1])
        assert reference._calculate_frame_score(at(number, 1 / FPS), bgr) == pytest.approx(scores[number, 0], abs=1e-9)


def test_cuts_by_given_scores_and_times_equal_pyscenedetect() -> None:
    from scenedetect.detectors import AdaptiveDetector

    class Scored(AdaptiveDetector):
        def _calculate_frame_score(self, timecode: object, frame_img: np.ndarray) -> float:
            return next(self.given)

    rng, num_cuts = np.random.default_rng(5), 0
    for base in (Fraction(1, 24), Fraction(1, 90_000), Fraction(1001, 30_000)):
        for window, content, ratio, least_s in ((1, 15.0, 2.0, 0.0), (2, 0.0, 300.0, 0.3), (3, 15.0, 3.5, 0.6)):
            scores = np.where(rng.random(300) < 0.1, rng.uniform(0, 200, 300), rng.exponential(6, 300))
            scores[100:140] = 0
            scores[[110, 120]] = 40
            ticks = rng.integers(1, 3, 300).cumsum() * max(1, int(Fraction(1, 30) / base))
            reference = Scored(
                adaptive_threshold=ratio, window_width=window, min_content_val=content, min_scene_len=least_s
            )
            reference.given = iter(scores.tolist())
            cuts_there = expected(reference, np.zeros((300, 1, 1, 3)), ticks, base)
            config = AdaptiveConfig(
                threshold=ratio, window_frames=window, min_content=content, min_scene_len_s=least_s
            )
            cuts = [one.first for one in config.build().transitions(scores[:, None], timeline(ticks, base))]
            assert ticks[cuts].tolist() == cuts_there
            num_cuts += len(cuts)
    assert num_cuts > 50


def dark_runs(seed: int) -> Iterator[tuple[bool, int]]:
    rng = np.random.default_rng(seed)
    for number in range(int(rng.integers(2, 9))):
        yield (number + seed) % 2 == 0, int(rng.integers(1, 40))


@pytest.mark.parametrize("method", ["floor", "ceiling"])
def test_a_fade_is_the_dark_frames_around_the_cut_of_pyscenedetect_at_every_bias(method: str) -> None:
    num_cuts = num_at_ends = 0
    for seed in range(40):
        is_dark = np.concatenate([np.full(length, dark) for dark, length in dark_runs(seed)])
        luma = np.where(is_dark == (method == "floor"), 5, 200).astype(np.uint8)
        film = np.broadcast_to(luma[:, None, None, None], (len(luma), 4, 6, 3))
        config = ThresholdConfig(method=method, min_out_length_s=0.2)
        fades = config.build().transitions(scored(config, film), timeline(np.arange(len(film))))
        assert all(is_dark[one.first : one.end].all() and one.kind == "fade" for one in fades)
        assert all(one.first == 0 or not is_dark[one.first - 1] for one in fades)
        assert all(one.end == len(film) or not is_dark[one.end] for one in fades)
        at_ends = [one for one in fades if one.first == 0 or one.end == len(film)]
        for bias in (-1.0, 0.0, 0.7, 1.0):
            reference = theirs(
                "ThresholdDetector", min_scene_len=0.6, fade_bias=bias, min_out_length=0.2,
                method=theirs("ThresholdDetector").Method[method.upper()],
            )  # fmt: skip
            cuts = [frame.frame_num for number, picture in enumerate(film)
                    for frame in reference.process_frame(at(number, 1 / FPS), picture)]  # fmt: skip
            found = [one for cut in cuts for one in fades if one.first <= cut <= one.end]
            assert len(found) == len(cuts)
            assert set(fades) == {*found, *at_ends}
        num_cuts += len(cuts)
        num_at_ends += len(at_ends)
    assert num_cuts > 20 and num_at_ends > 20


@pytest.mark.parametrize(("size", "lowpass"), [(3, 3), (256, 256)])
def test_a_hash_of_a_picture_that_cannot_be_transformed_is_refused(size: int, lowpass: int) -> None:
    with pytest.raises(ValueError, match="expected an even number of at most 1024"):
        HashConfig(size=size, lowpass=lowpass)


def test_a_film_that_is_dark_or_bright_throughout_is_one_shot() -> None:
    config = ThresholdConfig()
    for luma in (0, 90):
        film = np.full((30, 8, 8, 3), luma, np.uint8)
        assert config.build().transitions(scored(config, film), timeline(np.arange(30))) == []
