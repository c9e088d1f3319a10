from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.shots.base import Timeline, Transition
from curate.shots.clip_ranges import ClipRange, ClipRangeConfig, ClipRanges, Edge, divide

FPS = 24


def timeline(num_frames: int) -> Timeline:
    return Timeline(
        uri="a", pts=np.arange(num_frames), end_pts=num_frames, time_base=Fraction(1, FPS), fps=Fraction(FPS)
    )


def cut_up(cuts: list[int], num_frames: int, **lengths: float) -> ClipRanges:
    transitions = [Transition(cut, cut) for cut in cuts]
    return divide(transitions, [], timeline(num_frames), ClipRangeConfig(**lengths))


def frames(pieces: ClipRanges) -> tuple[tuple[int, int], ...]:
    return tuple((one.first, one.end) for one in pieces.ranges)


def test_every_shot_is_a_clip_by_default() -> None:
    assert frames(cut_up([3, 50], 100)) == ((0, 3), (3, 50), (50, 100))


def test_long_shots_are_divided_into_equal_pieces() -> None:
    assert frames(cut_up([24], 24 + 120, max_duration_s=2)) == ((0, 24), (24, 64), (64, 104), (104, 144))
    assert frames(cut_up([], 96, max_duration_s=2)) == ((0, 48), (48, 96))  # exactly twice the maximum: two pieces


def test_ends_are_trimmed_to_whole_frames() -> None:
    assert frames(cut_up([48], 96, trim_s=0.25)) == ((6, 42), (54, 90))
    assert frames(cut_up([48], 96, trim_s=0.26)) == ((7, 41), (55, 89))


def test_short_shots_are_counted() -> None:
    pieces = cut_up([3, 6, 50], 100, min_duration_s=0.5)
    assert (frames(pieces), pieces.num_short) == (((6, 50), (50, 100)), 2)
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
    cuts = [Transition(cut, cut)] if cut else []
    pts = np.cumsum([0, *durations_ms])
    shown = Timeline(uri="a", pts=pts[:-1], end_pts=int(pts[-1]), time_base=Fraction(1, 1000), fps=Fraction(24))
    pieces = divide(cuts, [], shown, ClipRangeConfig(max_duration_s=max_duration_s, trim_s=trim_s))
    longest_frame_s = max(durations_ms) / 1000
    previous_end = 0
    for first, end in frames(pieces):
        assert previous_end <= first < end <= len(durations_ms)
        assert not first < cut < end
        assert edges_s[end] - edges_s[first] <= max_duration_s + longest_frame_s + 1e-6
        previous_end = end
    if trim_s == 0:
        assert sum(end - first for first, end in frames(pieces)) == len(durations_ms)


def test_frames_of_a_transition_are_in_no_clip_and_are_counted_on_both_sides() -> None:
    transitions = [
        Transition(0, 4, "fade"), Transition(20, 20), Transition(30, 42, "gradual"), Transition(90, 100, "fade")
    ]  # fmt: skip
    pieces = divide(transitions, [], timeline(100), ClipRangeConfig())
    assert pieces.ranges == (
        ClipRange(first=4, end=20, shot=0, before=Edge(kind="fade", num_left_out=4), after=Edge(kind="cut")),
        ClipRange(first=20, end=30, shot=1, before=Edge(kind="cut"), after=Edge(kind="gradual", num_left_out=12)),
        ClipRange(
            first=42,
            end=90,
            shot=2,
            before=Edge(kind="gradual", num_left_out=12),
            after=Edge(kind="fade", num_left_out=10),
        ),
    )


def test_trimmed_frames_are_counted_and_divided_shots_say_so() -> None:
    one, other = cut_up([48], 96, trim_s=0.25).ranges
    assert (one.before, one.after) == (Edge(kind="file", num_left_out=6), Edge(kind="cut", num_left_out=6))
    assert (other.shot, other.before.kind, other.after.kind) == (1, "cut", "file")
    one, other = cut_up([], 96, max_duration_s=2).ranges
    assert (one.shot, one.after, other.shot, other.before) == (0, Edge(kind="divided"), 0, Edge(kind="divided"))


def test_a_change_of_size_ends_a_shot_unless_a_transition_does() -> None:
    pieces = divide([Transition(10, 20, "gradual")], [15, 20, 60], timeline(100), ClipRangeConfig())
    assert frames(pieces) == ((0, 10), (20, 60), (60, 100))
    assert [one.before.kind for one in pieces.ranges] == ["file", "gradual", "resize"]
