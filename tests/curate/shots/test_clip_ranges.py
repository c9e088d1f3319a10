from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.shots.base import Timeline, Transition
from curate.shots.clip_ranges import ClipRangeConfig, ClipRanges, divide
from curate.shots.shot import Edge, Shot
from curate.shots.stitch import StitchConfig, Thumbs

FPS = 24
NO_THUMBS = Thumbs(numbers=np.empty(0, np.int64), luma=np.empty((0, 32, 32), np.uint8))


def timeline(num_frames: int) -> Timeline:
    return Timeline(
        uri="a", pts=np.arange(num_frames), end_pts=num_frames, time_base=Fraction(1, FPS), fps=Fraction(FPS)
    )


def cut_up(cuts: list[int], num_frames: int, **lengths: float) -> ClipRanges:
    transitions = [Transition(cut, cut) for cut in cuts]
    return divide(transitions, [], timeline(num_frames), NO_THUMBS, ClipRangeConfig(**lengths))


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
    pieces = divide(cuts, [], shown, NO_THUMBS, ClipRangeConfig(max_duration_s=max_duration_s, trim_s=trim_s))
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
    pieces = divide(transitions, [], timeline(100), NO_THUMBS, ClipRangeConfig())
    assert pieces.ranges == (
        Shot(first=4, end=20, number=0, before=Edge(kind="fade", num_left_out=4), after=Edge(kind="cut")),
        Shot(first=20, end=30, number=1, before=Edge(kind="cut"), after=Edge(kind="gradual", num_left_out=12)),
        Shot(
            first=42,
            end=90,
            number=2,
            before=Edge(kind="gradual", num_left_out=12),
            after=Edge(kind="fade", num_left_out=10),
        ),
    )


def test_trimmed_frames_are_counted_and_divided_shots_say_so() -> None:
    one, other = cut_up([48], 96, trim_s=0.25).ranges
    assert (one.before, one.after) == (Edge(kind="file", num_left_out=6), Edge(kind="cut", num_left_out=6))
    assert (other.number, other.before.kind, other.after.kind) == (1, "cut", "file")
    one, other = cut_up([], 96, max_duration_s=2).ranges
    assert (one.number, one.after, other.number, other.before) == (0, Edge(kind="divided"), 0, Edge(kind="divided"))


def test_a_change_of_size_ends_a_shot_unless_a_transition_does() -> None:
    pieces = divide([Transition(10, 20, "gradual")], [15, 20, 60], timeline(100), NO_THUMBS, ClipRangeConfig())
    assert frames(pieces) == ((0, 10), (20, 60), (60, 100))
    assert [one.before.kind for one in pieces.ranges] == ["file", "gradual", "resize"]


def pictures(of: list[int]) -> Thumbs:
    """A thumbnail of every third frame; frames with the same number in `of` show the same texture."""
    luma = np.stack([np.random.default_rng(one).integers(0, 256, (32, 32), np.uint8) for one in of])
    return Thumbs(numbers=np.arange(len(of)) * 3, luma=luma)


def test_shots_of_one_view_are_joined_up_to_a_length_and_count_their_shots() -> None:
    thumbs = pictures([1] * 8 + [1] * 8 + [2] * 8 + [2] * 8)  # cuts before frames 24, 48 and 72
    cuts = [Transition(24, 24), Transition(48, 48), Transition(72, 78, "gradual")]
    joined = divide(cuts, [], timeline(96), thumbs, ClipRangeConfig(stitch=StitchConfig()))
    assert [(one.first, one.end, one.number, one.num_shots) for one in joined.ranges] == [
        (0, 48, 0, 2), (48, 72, 2, 1), (78, 96, 3, 1)
    ]  # fmt: skip
    assert frames(divide(cuts, [], timeline(96), thumbs, ClipRangeConfig())) == ((0, 24), (24, 48), (48, 72), (78, 96))
    short = ClipRangeConfig(stitch=StitchConfig(max_duration_s=1.9))
    assert frames(divide(cuts, [], timeline(96), thumbs, short))[0] == (0, 24)


def test_shots_of_other_sizes_are_not_joined() -> None:
    config = ClipRangeConfig(stitch=StitchConfig())
    for transitions, resizes in (([], [48]), ([Transition(48, 48, "blend")], [])):
        pieces = divide(transitions, resizes, timeline(96), pictures([1] * 32), config)
        assert frames(pieces) == ((0, 48), (48, 96))


def test_a_shot_without_a_picture_or_without_texture_is_not_joined() -> None:
    flat = Thumbs(numbers=np.arange(0, 96, 3), luma=np.full((32, 32, 32), 7, np.uint8))
    for thumbs in (NO_THUMBS, flat):
        pieces = divide(
            [Transition(48, 48)], [], timeline(96), thumbs, ClipRangeConfig(stitch=StitchConfig(min_similarity=0.01))
        )
        assert len(pieces.ranges) == 2


def test_a_long_shot_is_divided_where_the_picture_is_still() -> None:
    still = {10, 11, 25, 26}  # thumbnails that equal the one before
    of = np.cumsum([0 if number in still else 1 for number in range(40)]).tolist()
    config = ClipRangeConfig(max_duration_s=2, divide_at="still")
    assert frames(divide([], [], timeline(120), pictures(of), config)) == ((0, 30), (30, 75), (75, 120))


@given(num_frames=st.integers(1, 400), max_duration_s=st.floats(0.3, 5), seed=st.integers(0, 9))
def test_still_clips_have_half_the_longest_duration_to_the_longest(
    num_frames: int, max_duration_s: float, seed: int
) -> None:
    of = np.random.default_rng(seed).integers(0, 3, -(-num_frames // 3)).tolist()
    config = ClipRangeConfig(max_duration_s=max_duration_s, divide_at="still")
    pieces = frames(divide([], [], timeline(num_frames), pictures(of), config))
    assert [pieces[0][0], *(end for _, end in pieces)] == [first for first, _ in pieces] + [num_frames]
    if num_frames / FPS > max_duration_s:
        lengths_s = [(end - first) / FPS for first, end in pieces]
        assert max(lengths_s) <= max_duration_s + 1 / FPS + 1e-6
        assert min(lengths_s) >= max_duration_s / 2 - 4 / FPS
