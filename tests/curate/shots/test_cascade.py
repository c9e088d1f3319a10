"""The default detector on films with exact labels: what it finds without the network, and what the network adds."""

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from curate.encoders.weights import MissingWeights
from curate.shots import transnetv2_network
from curate.shots.base import Timeline, Transition
from curate.shots.cascade import ALL, CONTRAST, CUT, CascadeConfig
from curate.shots.windows import WindowedScores
from tests.support.film_decoys import DECOYS
from tests.support.film_joins import COLORS, KINDS, Effect, Join, mixes

SIZE = (96, 128)


@pytest.fixture
def without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*arguments: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(transnetv2_network, "load", load)


def shot(number: int, count: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """`(count, *size, 3)`: a picture of soft spots, with noise."""
    rng = np.random.default_rng(number)
    spots = rng.integers(20, 236, (6, 9, 3), np.uint8)
    picture = cv2.resize(spots, size[::-1], interpolation=cv2.INTER_CUBIC).astype(np.int16)
    return np.clip(picture + rng.integers(-9, 10, (count, *size, 1)), 0, 255).astype(np.uint8)


def film(*joins: Join) -> tuple[np.ndarray, list[Transition]]:
    """Drawn shots of 40 frames alone, joined in this way, and the labels."""
    frames: list[np.ndarray] = []
    labels = []
    tail = np.empty((0, *SIZE, 3), np.uint8)
    for number, join in enumerate([*joins, Join(effect="cut", mixed=0)]):
        own = shot(number, len(tail) + 40 + join.mixed)
        if number:
            before = joins[number - 1]
            frames += mixes(before, tail, own[: before.mixed], seed=number)
            labels[-1] = Transition(labels[-1], len(frames), KINDS[before.effect])
        frames += list(own[len(tail) : len(tail) + 40])
        tail = own[len(own) - join.mixed :]
        labels.append(len(frames))
    return np.stack(frames), labels[:-1]


def found(rgb: np.ndarray) -> list[Transition]:
    detector = CascadeConfig().build()
    detector.setup()
    windows = WindowedScores(detector)
    for frame in rgb:
        windows.add(cv2.resize(frame, (48, 27), interpolation=cv2.INTER_AREA))
    count = len(rgb)
    times = Timeline(uri="a.mp4", pts=np.arange(count), end_pts=count, time_base=Fraction(1, 24), fps=Fraction(24))
    return detector.transitions(windows.finish(), times)


@pytest.mark.usefixtures("without_network")
def test_cuts_and_blends_are_found_on_the_frame_without_the_network() -> None:
    effects: list[Effect] = ["cut", "blend", "cut", "blend"]
    rgb, labels = film(*(Join(effect=effect, mixed=int(effect == "blend")) for effect in effects))
    assert found(rgb) == labels


@pytest.mark.usefixtures("without_network")
@pytest.mark.parametrize("effect", ["fade_black", "fade_white", "wipe", "wipe_diagonal", "wipe_soft", "iris"])
def test_fades_and_wipes_are_left_out_without_the_network(effect: Effect) -> None:
    mixed = (7, 12, 18)
    rgb, labels = film(*(Join(effect=effect, mixed=count, hold=5 * (effect in COLORS)) for count in mixed))
    transitions = found(rgb)
    assert [one.kind for one in transitions] == [KINDS[effect]] * 3
    for one, label in zip(transitions, labels, strict=True):
        assert label.first - 8 <= one.first <= label.first and label.end <= one.end <= label.end + 8


def test_a_dissolve_is_left_out_with_few_frames_around_it() -> None:
    rgb, (label,) = film(Join(effect="dissolve", mixed=14))
    (one,) = found(rgb)
    assert one.kind == "gradual"
    assert label.first - 6 <= one.first <= label.first and label.end <= one.end <= label.end + 6


@pytest.mark.parametrize("name", sorted(DECOYS.keys() - {"explosion", "zoom"}))  # those two can pass for cuts
def test_what_happens_inside_a_shot_is_no_transition(name: str) -> None:
    decoy = DECOYS[name]
    height, width = (round(side * decoy.scale) for side in SIZE)
    frames = shot(1, 70, (height, width))
    first, length = 30, decoy.lengths[0]
    assert found(decoy.apply(frames, first, first + length, SIZE, np.random.default_rng(0))) == []


@pytest.mark.usefixtures("without_network")
def test_short_and_flat_files_have_no_transition(draw_scenes: Callable[..., np.ndarray]) -> None:
    for rgb in (draw_scenes([1]), draw_scenes([2]), np.zeros((130, 27, 48, 3), np.uint8)):
        assert found(rgb) == []


@pytest.mark.usefixtures("without_network")
def test_cuts_at_the_first_and_the_last_frame(draw_scenes: Callable[..., np.ndarray]) -> None:
    assert found(draw_scenes([1, 40, 1])) == [Transition(1, 1), Transition(41, 41)]


@pytest.mark.usefixtures("without_network")
def test_a_few_black_frames_between_shots_are_left_out_and_longer_black_is_a_shot() -> None:
    one, other = shot(0, 40), shot(1, 40)
    for length in (3, 9, 60):
        rgb = np.concatenate([one, np.zeros((length, *SIZE, 3), np.uint8), other])
        expected = [Transition(40, 40 + length, "fade")] if length < 12 else [Transition(40, 40), Transition(100, 100)]
        assert found(rgb) == expected


@pytest.mark.usefixtures("without_network")
def test_missing_weights_name_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REELPACK_CACHE", str(tmp_path))
    detector = CascadeConfig().build()
    for asked in (lambda: detector.check(["a.mp4"]), detector.setup):
        with pytest.raises(MissingWeights, match="reelpack weights transnetv2"):
            asked()


def test_the_scan_key_needs_no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here = CascadeConfig().build().digest("a.mp4")
    monkeypatch.setenv("REELPACK_CACHE", str(tmp_path))
    assert here and CascadeConfig().build().digest("a.mp4") == here


@pytest.mark.usefixtures("without_network")
def test_bars_and_titles_that_appear_are_no_cut() -> None:
    for name in ("bars", "text"):
        frames = shot(2, 60)
        assert found(DECOYS[name].apply(frames, 20, 45, SIZE, np.random.default_rng(3))) == []


def test_a_dark_dissolve_is_found() -> None:
    rgb, (label,) = film(Join(effect="dissolve", mixed=14))
    (one,) = found(cv2.convertScaleAbs(rgb, alpha=0.25))
    assert label.first - 8 <= one.first <= label.first and label.end <= one.end <= label.end + 8


def test_transitions_are_in_order_and_apart() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores = np.zeros((300, 8))
        scores[rng.integers(0, 300, 12), CUT] = 1
        scores[:, CONTRAST] = np.where(rng.random(300) < 0.1, 0, 40)
        scores[:, ALL] = np.where(rng.random(300) < 0.5, 0, rng.random(300))
        times = Timeline(uri="a.mp4", pts=np.arange(300), end_pts=300, time_base=Fraction(1, 24), fps=Fraction(24))
        transitions = CascadeConfig().build().transitions(scores, times)
        assert transitions and all(one.end <= other.first for one, other in pairwise(transitions))
