"""One contract for every detector of the family."""

import pickle
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from curate.scan import SCAN_VERSION, ScanConfig, ScanKeys, ScanStage, SourceFile
from curate.schema import Failure, FailureKind, content_digest
from curate.shots import config as family
from curate.shots import transnetv2_network
from curate.shots.adaptive import AdaptiveConfig
from curate.shots.base import ShotDetector, Timeline, Transition
from curate.shots.shot import shots_between
from curate.shots.spans import SpansConfig
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


@pytest.fixture(autouse=True)
def _narrow_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few filters and random weights: the contract is about windows, and the embedded weights take a second each."""
    monkeypatch.setattr(transnetv2_network, "FILTERS", (2, 2, 2))

    def load(path: object, device: torch.device, dtype: torch.dtype) -> torch.nn.Module:
        torch.manual_seed(0)
        network = transnetv2_network.TransNetV2().eval()
        torch.nn.init.constant_(network.heads.bias, -2.0)
        return network.to(device=device, dtype=dtype)

    monkeypatch.setattr(transnetv2_network, "load", load)


@pytest.fixture(params=MEMBERS, ids=lambda member: member.model_fields["kind"].default)
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param is SpansConfig:
        (tmp_path / "list.csv").write_text("path,start,end\nother.mp4,0,1\n")
        return SpansConfig(path=str(tmp_path / "list.csv"), unlisted="whole")
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


def test_a_cut_on_the_first_or_the_last_frame_and_black_films_give_ranges_that_shots_are_made_of(
    config: Any, detector: ShotDetector, draw_scenes: Callable[..., np.ndarray]
) -> None:
    black, white = np.zeros((40, 96, 160, 3), np.uint8), np.full((40, 96, 160, 3), 255, np.uint8)
    for rgb in (draw_scenes([1, 40]), draw_scenes([40, 1]), black, white, black[:1]):
        found = transitions_of(config, scored(detector, rgb))
        assert all(0 <= one.first <= one.end <= len(rgb) for one in found)
        assert all(before.end <= after.first for before, after in pairwise(found))
        shots = shots_between(found, [], len(rgb))
        assert all(shot.first < shot.end for shot in shots)
        left_out = sum(one.end - one.first for one in found)
        assert sum(shot.end - shot.first for shot in shots) == len(rgb) - left_out


@pytest.mark.filterwarnings("ignore:Pydantic serializer")  # a detector that is not in the union
def test_a_file_that_is_damaged_in_the_middle_ends_the_same_for_every_detector(
    config: Any, draw_scenes: Callable[..., np.ndarray], write_video: Callable[..., str]
) -> None:
    path = write_video("film.mp4", draw_scenes([20, 28]))
    data = np.fromfile(path, np.uint8)
    data[len(data) // 3 : len(data) // 2] = 0x55
    data.tofile(path)
    stage = ScanStage(ScanConfig().model_copy(update={"detector": config}))
    stage.setup()
    (outcome,) = stage.process([SourceFile(uri="film.mp4", path=path, size_bytes=0, video_id="v")])
    assert isinstance(outcome, Failure) and outcome.kind == FailureKind.CORRUPT


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
    config = ScanConfig(detector=AdaptiveConfig())
    with_weights = config.model_copy(update={"detector": WindowedConfig()})
    key = ScanKeys(config).of("a.mp4")
    assert ScanKeys(with_weights).of("a.mp4") != key
    how = config.model_dump_json(exclude={"sources", "part_s", "time_limit_s", "max_pixels"})
    assert key == content_digest("scan", str(SCAN_VERSION), how), "datasets would be scanned again"


@pytest.mark.parametrize("lengths", [(24, 30), (15, 16, 40, 18), (60, 20, 20)])
def test_hard_cuts_are_found_on_the_frame(lengths: tuple[int, ...], draw_scenes: Callable[..., np.ndarray]) -> None:
    assert detect(AdaptiveConfig(), draw_scenes(lengths))[0] == np.cumsum(lengths)[:-1].tolist()


def test_least_shot_length_is_time_and_not_frames(draw_scenes: Callable[..., np.ndarray]) -> None:
    rgb = draw_scenes([20, 20, 20])
    late = np.arange(60) + 1000
    assert detect(AdaptiveConfig(min_scene_len_s=1.0), rgb)[0] == [40]
    assert detect(AdaptiveConfig(min_scene_len_s=1.0), rgb, late, Fraction(1, 10))[0] == [20, 40]
