"""The contract of every signal of the scan."""

from collections.abc import Callable

import numpy as np
import pytest

from curate.columns import FACTS, SCORE_COLUMNS
from curate.signals import config as family
from curate.signals.base import FrameSignal, ScanFrame
from tests.support.families import with_member

EXTENDED = with_member(
    family, "tests.support.members.saturation", "SaturationSignal", after="MotionSignal,", line="SaturationSignal,"
)
"""The family with the member that CONTRIBUTING.md adds."""
FPS = 24


@pytest.fixture(params=EXTENDED.SIGNALS, ids=lambda signal: signal.__name__)
def signal(request: pytest.FixtureRequest) -> type[FrameSignal]:
    return request.param


@pytest.fixture(scope="module")
def rgb(draw_scenes: Callable[..., np.ndarray]) -> np.ndarray:
    """Three seconds: two scenes, a stretch of black, a flash, a freeze."""
    frames = draw_scenes([40, 32]).copy()
    frames[10:16] = 0
    frames[50] = 255
    frames[60:] = frames[60]
    return frames


def measured(signal: type[FrameSignal], rgb: np.ndarray, first: int = 0) -> np.ndarray:
    """The numbers of the frames from `first` on, by a new pass."""
    one = signal()
    frames = [ScanFrame(shown_s=number / FPS, rgb=rgb[number]) for number in range(first, len(rgb))]
    return np.array([one.measure(frame) for frame in frames])


def test_a_clip_of_any_length_gets_values_in_the_declared_ranges(signal: type[FrameSignal], rgb: np.ndarray) -> None:
    before = rgb.copy()
    values = measured(signal, rgb)
    assert values.shape == (len(rgb), signal.num_values) and np.array_equal(rgb, before)
    for first, end in ((0, len(rgb)), (0, 1), (5, 7), (11, 14), (50, 51), (30, 72)):
        summary = signal.summarize(values[first:end], np.arange(first, end) / FPS, end / FPS)
        assert summary.keys() == signal.columns.keys()
        for name, value in summary.items():
            low, high = signal.columns[name].range
            assert low <= value <= high, (name, value)


def test_a_pass_that_begins_a_second_earlier_measures_what_one_from_the_start_does(
    signal: type[FrameSignal], rgb: np.ndarray
) -> None:
    np.testing.assert_array_equal(measured(signal, rgb, FPS)[FPS:], measured(signal, rgb)[2 * FPS :])


def test_the_columns_are_described_and_their_default_rules_are_within_range(signal: type[FrameSignal]) -> None:
    for column in signal.columns.values():
        assert column.description and column.default.mismatch(column.type) is None
        assert all(column.range[0] <= bound <= column.range[1] for bound in column.default.sides.values())


def test_no_two_signals_declare_the_same_column() -> None:
    names = [name for one in EXTENDED.SIGNALS for name in one.columns]
    assert len({*names, *FACTS, *SCORE_COLUMNS}) == len(names) + len(FACTS) + len(SCORE_COLUMNS)
    assert tuple(names) == EXTENDED.SIGNAL_NAMES
