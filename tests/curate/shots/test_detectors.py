"""One contract for every detector of the family; the adaptive one gives what PySceneDetect gives."""

import pickle
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from curate.scan import SCAN_VERSION, ScanConfig
from curate.schema import content_digest
from curate.shots import config as family
from curate.shots.adaptive import AdaptiveConfig
from curate.shots.base import ShotDetector, Timeline, Transition
from curate.shots.windows import WindowedScores
from tests.support.families import with_member
from tests.support.members.black import BlackConfig
from tests.support.windowed_detector import WindowedConfig

FPS = Fraction(24)
EXTENDED = with_member(family, "tests.support.members.black", "BlackConfig", after="AdaptiveConfig")
"""The family with the member that CONTRIBUTING.md adds."""
MEMBERS = [*EXTENDED.DETECTORS, WindowedConfig]


def scored(detector: ShotDetector, rgb: np.ndarray, first_frame: int = 0) -> np.ndarray:
    windows = WindowedScores(detector, first_frame)
    for frame in rgb:
        windows.add(frame)
    return windows.finish()


def detect(config: Any, rgb: np.ndarray, pts: np.ndarray | None = None, base: Fraction = 1 / FPS):
    """Frames that begin a shot, and the scores."""
    scores = scored(config.build(), rgb)
    transitions = config.build().transitions(scores, timeline(np.arange(len(rgb)) if pts is None else pts, base))
    assert all(one.first == one.end and one.kind == "cut" for one in transitions)
    return [one.first for one in transitions], scores


def timeline(pts: np.ndarray, base: Fraction = 1 / FPS) -> Timeline:
    return Timeline(uri="film.mp4", pts=pts, end_pts=int(pts[-1]) + 1, time_base=base, fps=FPS)


@pytest.fixture(params=MEMBERS, ids=lambda member: member.model_fields["kind"].default)
def config(request: pytest.FixtureRequest) -> Any:
    return request.param()


@pytest.fixture
def detector(config: Any) -> ShotDetector:
    built = config.build()
    built.setup()
    return built


def transitions_of(config: Any, scores: np.ndarray) -> list[Transition]:
    return config.build().transitions(scores, timeline(np.arange(len(scores))))


def test_one_shot_has_no_transition(
    config: Any, detector: ShotDetector, draw_scenes: Callable[..., np.ndarray]
) -> None:
    for length in (1, 2, 7, 40):
        assert transitions_of(config, scored(detector, draw_scenes([length]))) == []


def test_every_frame_gets_its_scores_and_transitions_are_ranges_in_order(
    config: Any, detector: ShotDetector, draw_scenes: Callable[..., np.ndarray]
) -> None:
    for lengths in ([1], [8], [49, 60], [3, 100, 28]):
        rgb = draw_scenes(lengths)
        rgb[len(rgb) // 3 : len(rgb) // 2] = 0
        before = rgb.copy()
        scores = scored(detector, rgb)
        assert scores.shape == (len(rgb), detector.num_scores) and scores.dtype == np.float64
        assert np.isfinite(scores).all() and np.array_equal(rgb, before)
        edges = [edge for transition in transitions_of(config, scores) for edge in (transition.first, transition.end)]
        assert edges == sorted(edges) and all(0 <= edge <= len(rgb) for edge in edges)


def test_a_file_s_scores_do_not_depend_on_the_one_before(
    detector: ShotDetector, draw_scenes: Callable[..., np.ndarray]
) -> None:
    one, other = draw_scenes([20, 33]), draw_scenes([41], height=36, width=64)
    alone = scored(detector, one)
    scored(detector, other)
    assert np.array_equal(scored(detector, one), alone)


def test_parts_with_the_declared_context_score_as_one_pass(
    detector: ShotDetector, draw_scenes: Callable[..., np.ndarray]
) -> None:
    rgb, window = draw_scenes([70, 80, 93]), detector.window
    whole = scored(detector, rgb)
    for start in (window.warm_frames, window.warm_frames + 13, 150):
        first = start - window.warm_frames
        for end in (start + 1, start + 40, len(rgb)):
            windows, given = WindowedScores(detector, first), first
            while given < len(rgb) and not (given >= end and windows.covers(end - first)):
                windows.add(rgb[given])
                given += 1
            part = windows.finish()[window.warm_frames : end - first]
            assert np.array_equal(part, whole[start:end]), (start, end)
            assert given <= end + window.stride + window.ahead


def test_a_batch_of_windows_scores_as_its_windows(
    detector: ShotDetector, draw_scenes: Callable[..., np.ndarray]
) -> None:
    window = detector.window
    height, width = window.size_px or (24, 32)
    windows = draw_scenes([window.num_frames] * 2, height=height, width=width)
    windows = windows.reshape(2, window.num_frames, height, width, 3)
    together = detector.score(windows)
    assert together.shape == (2, window.stride, detector.num_scores)
    assert np.array_equal(together, np.concatenate([detector.score(one[None]) for one in windows]))


def test_a_change_of_size_within_a_file_is_no_error(
    detector: ShotDetector, draw_scenes: Callable[..., np.ndarray]
) -> None:
    windows = WindowedScores(detector)
    for rgb in (draw_scenes([13]), draw_scenes([60], height=36, width=64), draw_scenes([1])):
        for frame in rgb:
            windows.add(frame)
    assert windows.finish().shape == (74, detector.num_scores)


def test_it_is_pickled_before_setup_and_its_settings_go_through_a_file(config: Any) -> None:
    copy = pickle.loads(pickle.dumps(config.build()))
    assert copy.digest("a.mp4") == config.build().digest("a.mp4")
    assert type(config).model_validate(config.model_dump(mode="json")) == config


def test_a_member_that_was_added_finds_its_transitions(draw_scenes: Callable[..., np.ndarray]) -> None:
    rgb = draw_scenes([20, 30])
    rgb[18:23] = rgb[45:] = 0
    scores = scored(BlackConfig().build(), rgb)
    assert transitions_of(BlackConfig(), scores) == [Transition(18, 23, "fade"), Transition(45, 50, "fade")]


def test_windows_are_scored_in_calls_of_the_declared_size(draw_scenes: Callable[..., np.ndarray]) -> None:
    detector = WindowedConfig().build()
    detector.setup()
    assert len(scored(detector, draw_scenes([80, 80, 5 * detector.window.stride - 163]))) == 247
    assert detector.calls == [2, 2, 1]


@pytest.mark.filterwarnings("ignore:Pydantic serializer")  # a detector that is not in the union
def test_weights_are_part_of_the_scan_key() -> None:
    config = ScanConfig()
    assert config.model_copy(update={"detector": WindowedConfig()}).key != config.key
    how = config.model_dump_json(exclude={"part_s", "time_limit_s", "max_pixels"})
    assert config.key == content_digest("scan", str(SCAN_VERSION), how), "datasets would be scanned again"


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
        assert content._calculate_frame_score(now, bgr) == pytest.approx(scores[number, 0], abs=1e-9)
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
            cuts = [one.first for one in config.build().transitions(scores[:, None], timeline(ticks, base))]
            assert ticks[cuts].tolist() == expected
            num_cuts += len(cuts)
    assert num_cuts > 50
