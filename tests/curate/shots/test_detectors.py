"""One contract for every detector of the family; the adaptive one gives what PySceneDetect gives."""

from collections.abc import Callable
from fractions import Fraction
from typing import get_args

import numpy as np
import pytest

from curate.shots.adaptive import AdaptiveConfig
from curate.shots.config import ShotDetectorConfig

FPS = Fraction(24)
FAMILY = get_args(get_args(ShotDetectorConfig)[0])


def detect(config: ShotDetectorConfig, rgb: np.ndarray, pts: np.ndarray | None = None, base: Fraction = 1 / FPS):
    detector = config.build()
    scores = np.array([detector.measure(frame) for frame in rgb])
    return detector.cuts(scores, np.arange(len(rgb)) if pts is None else pts, base, FPS), scores


@pytest.mark.parametrize("member", FAMILY)
def test_one_shot_has_no_cut(member: type, draw_scenes: Callable[..., np.ndarray]) -> None:
    for length in (1, 2, 7, 40):
        assert detect(member(), draw_scenes([length]))[0] == []


@pytest.mark.parametrize("member", FAMILY)
def test_frames_measured_in_parts_with_one_frame_of_overlap_score_the_same(
    member: type, draw_scenes: Callable[..., np.ndarray]
) -> None:
    rgb = draw_scenes([20, 20])
    whole = detect(member(), rgb)[1]
    parts = [detect(member(), rgb[:15])[1], detect(member(), rgb[14:])[1][1:]]
    assert np.array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("lengths", [(24, 30), (15, 16, 40, 18), (60, 20, 20)])
def test_hard_cuts_are_found_on_the_frame(lengths: tuple[int, ...], draw_scenes: Callable[..., np.ndarray]) -> None:
    assert detect(AdaptiveConfig(), draw_scenes(lengths))[0] == np.cumsum(lengths)[:-1].tolist()


def test_least_shot_length_is_time_and_not_frames(draw_scenes: Callable[..., np.ndarray]) -> None:
    rgb = draw_scenes([20, 20, 20])
    late = np.arange(60) + 1000
    assert detect(AdaptiveConfig(min_scene_len_s=1.0), rgb)[0] == [40]
    assert detect(AdaptiveConfig(min_scene_len_s=1.0), rgb, late, Fraction(1, 10))[0] == [20, 40]


@pytest.mark.parametrize("threshold", [2.0, 3.5])
def test_adaptive_equals_pyscenedetect(threshold: float, draw_scenes: Callable[..., np.ndarray]) -> None:
    from scenedetect.common import FrameTimecode, Timecode
    from scenedetect.detectors import AdaptiveDetector, ContentDetector

    rng = np.random.default_rng(3)
    rgb = draw_scenes(rng.integers(8, 40, 8).tolist())
    rgb = np.clip(rgb + rng.normal(0, 8, rgb.shape), 0, 255).astype(np.uint8)
    config = AdaptiveConfig(threshold=threshold, window_frames=2, min_content=5)
    cuts, scores = detect(config, rgb)
    reference = AdaptiveDetector(
        adaptive_threshold=threshold, window_width=2, min_content_val=5, min_scene_len=config.min_scene_len_s
    )
    content = ContentDetector()
    expected: list[int] = []
    for number, frame in enumerate(rgb):
        now = FrameTimecode(Timecode(pts=number, time_base=1 / FPS), fps=FPS)
        bgr = np.ascontiguousarray(frame[..., ::-1])
        expected += [cut.pts for cut in reference.process_frame(now, bgr)]
        assert content._calculate_frame_score(now, bgr) == pytest.approx(scores[number], abs=1e-9)
    assert cuts == expected
    assert len(cuts) >= 3


def test_cuts_by_given_scores_and_times_equal_pyscenedetect() -> None:
    from scenedetect.common import FrameTimecode, Timecode
    from scenedetect.detectors import AdaptiveDetector

    class Scored(AdaptiveDetector):
        def _calculate_frame_score(self, timecode: FrameTimecode, frame_img: np.ndarray) -> float:
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
            expected: list[int] = []
            for time in ticks.tolist():
                now = FrameTimecode(Timecode(pts=time - int(ticks[0]), time_base=base), fps=FPS)
                expected += [cut.pts + int(ticks[0]) for cut in reference.process_frame(now, np.empty(0))]
            config = AdaptiveConfig(
                threshold=ratio, window_frames=window, min_content=content, min_scene_len_s=least_s
            )
            cuts = config.build().cuts(scores, ticks, base, FPS)
            assert ticks[cuts].tolist() == expected
            num_cuts += len(cuts)
    assert num_cuts > 50
