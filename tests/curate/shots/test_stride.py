"""Clips of a fixed length: exact in time, at any rate and time base."""

from fractions import Fraction

import numpy as np
import pytest

from curate.shots.base import Timeline, Transition
from curate.shots.stride import StrideConfig


def strides(pts: np.ndarray, base: Fraction, end_pts: int | None = None, **lengths: float) -> list[Transition]:
    end_pts = int(2 * pts[-1] - pts[-2]) if end_pts is None else end_pts
    shown = Timeline(uri="film.mp4", pts=pts, end_pts=end_pts, time_base=base, fps=1 / base)
    return StrideConfig(**lengths).build().transitions(np.zeros((len(pts), 0)), shown)


def test_boundaries_do_not_drift_at_rates_that_are_no_whole_numbers() -> None:
    num_frames = 30_000 * 60 // 1001  # a minute and a bit less
    pts = np.arange(num_frames * 60) * 3003
    found = strides(pts, Fraction(1, 90_000), length_s=10)
    times = [Fraction(int(pts[one.first]), 90_000) for one in found]
    assert len(found) == 359
    for number, (time, one) in enumerate(zip(times, found, strict=True), 1):
        assert time >= number * 10 > Fraction(int(pts[one.first - 1]), 90_000)
        assert one == Transition(one.first, one.first, "divided")


def test_lengths_that_binary_numbers_do_not_hold_end_on_their_frame() -> None:
    for frames in (7, 11):  # the nearest number is below 0.7, and above 1.1
        found = strides(np.arange(100), Fraction(1, 10), length_s=frames / 10, min_last_s=0.0)
        assert [one.first for one in found] == list(range(frames, 100, frames))


def test_irregular_frames_are_in_the_clip_of_their_time_and_the_clock_can_start_anywhere() -> None:
    pts = np.array([0, 900, 999, 1000, 1400, 5600, 5999, 6001, 6900]) + 12_345
    found = strides(pts, Fraction(1, 1000), 12_345 + 7000, length_s=1, min_last_s=0.5)
    assert [one.first for one in found] == [3, 5, 7]


@pytest.mark.parametrize(("seconds", "clips"), [(1, 1), (10, 1), (11.5, 1), (12, 2), (29, 3), (31.9, 3), (32, 4)])
def test_a_short_rest_is_left_out_and_a_short_film_is_one_clip(seconds: float, clips: int) -> None:
    num_frames = int(seconds * 20)
    found = strides(np.arange(num_frames), Fraction(1, 20), num_frames)
    rest = [one for one in found if one.kind == "gap"]
    assert len(found) - len(rest) == clips - 1
    left_out = sum(one.end - one.first for one in found)
    assert left_out == (num_frames % 200 if num_frames > 200 and num_frames % 200 < 40 else 0)
    assert all(one.end == num_frames for one in rest)


def test_a_rest_longer_than_a_clip_is_refused() -> None:
    with pytest.raises(ValueError, match=r"min_last_s .* at most length_s"):
        StrideConfig(length_s=1, min_last_s=2)
