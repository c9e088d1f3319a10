import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.shots.clip_ranges import ClipRangeConfig, divide

FPS = 24


def cut_up(cuts: list[int], num_frames: int, **lengths: float):
    transitions = [(cut, cut) for cut in cuts]
    return divide(transitions, np.arange(num_frames) / FPS, num_frames / FPS, ClipRangeConfig(**lengths))


def test_every_shot_is_a_clip_by_default() -> None:
    assert cut_up([3, 50], 100).ranges == ((0, 3), (3, 50), (50, 100))


def test_long_shots_are_divided_into_equal_pieces() -> None:
    assert cut_up([24], 24 + 120, max_duration_s=2).ranges == ((0, 24), (24, 64), (64, 104), (104, 144))
    assert cut_up([], 96, max_duration_s=2).ranges == ((0, 48), (48, 96))  # exactly twice the maximum: two pieces


def test_ends_are_trimmed_to_whole_frames() -> None:
    assert cut_up([48], 96, trim_s=0.25).ranges == ((6, 42), (54, 90))
    assert cut_up([48], 96, trim_s=0.26).ranges == ((7, 41), (55, 89))


def test_short_shots_are_counted() -> None:
    pieces = cut_up([3, 6, 50], 100, min_duration_s=0.5)
    assert (pieces.ranges, pieces.num_short) == (((6, 50), (50, 100)), 2)
    assert cut_up([10], 100, trim_s=0.3).num_short == 1  # nothing of the first shot is left


def test_settings_that_would_lose_pieces_are_refused() -> None:
    with pytest.raises(ValueError, match="at most half of max_duration_s"):
        ClipRangeConfig(min_duration_s=2, max_duration_s=3)


@given(
    durations_ms=st.lists(st.integers(1, 400), min_size=1, max_size=80),
    cut_share=st.floats(0, 1),
    max_duration_s=st.floats(0.2, 5),
    trim_s=st.floats(0, 0.3),
)
def test_pieces_are_ordered_disjoint_and_short_enough(
    durations_ms: list[int], cut_share: float, max_duration_s: float, trim_s: float
) -> None:
    edges_s = np.cumsum([0, *durations_ms]) / 1000
    cut = int(cut_share * (len(durations_ms) - 1))
    cuts = [(cut, cut)] if cut else []
    pieces = divide(cuts, edges_s[:-1], edges_s[-1], ClipRangeConfig(max_duration_s=max_duration_s, trim_s=trim_s))
    longest_frame_s = max(durations_ms) / 1000
    previous_end = 0
    for first, end in pieces.ranges:
        assert previous_end <= first < end <= len(durations_ms)
        assert not first < cut < end
        assert edges_s[end] - edges_s[first] <= max_duration_s + longest_frame_s + 1e-6
        previous_end = end
    if trim_s == 0:
        assert sum(end - first for first, end in pieces.ranges) == len(durations_ms)


def test_frames_of_a_transition_are_in_no_clip() -> None:
    starts_s = np.arange(100) / FPS
    ranges = divide([(0, 4), (20, 20), (30, 42), (90, 100)], starts_s, 100 / FPS, ClipRangeConfig()).ranges
    assert ranges == ((4, 20), (20, 30), (42, 90))
