"""Windows of long clips: every frame that the frame rule takes, in the fewest windows."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from train.autoencoder.base import usable_frames
from train.autoencoder.windows import Window, in_windows, middle_of, windows_of

clips = st.integers(1, 700)
longest = st.integers(1, 140)
strides = st.sampled_from([1, 2, 4, 6, 8])


@given(num_frames=clips, max_frames=longest, stride=strides)
def test_every_frame_is_in_a_window_but_for_a_remainder_below_the_stride(num_frames, max_frames, stride) -> None:
    windows = windows_of(num_frames, max_frames=max_frames, temporal_stride=stride)
    shown = set().union(*(range(window.start, window.end) for window in windows))
    assert shown == set(range(min(shown), max(shown) + 1)) and min(shown) >= 0 and max(shown) < num_frames
    assert num_frames - len(shown) < stride
    if num_frames <= max_frames:
        assert windows == middle_of(num_frames, max_frames=max_frames, temporal_stride=stride)


@given(num_frames=clips, max_frames=longest, stride=strides)
def test_windows_are_few_equal_and_share_little(num_frames, max_frames, stride) -> None:
    windows = windows_of(num_frames, max_frames=max_frames, temporal_stride=stride)
    [length] = {window.num_frames for window in windows}
    assert length <= max_frames and (length - 1) % stride == 0
    most = usable_frames(max_frames, stride)
    assert (len(windows) - 1) * most < usable_frames(num_frames, stride)  # one less would not do
    assert len(windows) * length - num_frames < len(windows) * stride
    assert [window.number for window in windows] == list(range(len(windows)))


def test_a_clip_of_ten_seconds() -> None:
    windows = windows_of(240, max_frames=129, temporal_stride=4)
    assert [(window.start, window.num_frames) for window in windows] == [(0, 121), (119, 121)]


@given(num_frames=clips, max_frames=longest, stride=strides)
def test_frames_are_handed_out_to_their_windows_while_each_is_decoded_once(num_frames, max_frames, stride) -> None:
    windows = windows_of(num_frames, max_frames=max_frames, temporal_stride=stride)
    frames = iter([np.array(number) for number in range(windows[0].start, windows[-1].end)])
    for window, given_frames in zip(windows, in_windows(frames, windows), strict=True):
        assert [int(frame) for frame in given_frames] == list(range(window.start, window.end))
    assert next(frames, None) is None


def test_a_window_apart_needs_no_frame_of_another() -> None:
    frames = next(in_windows(iter([np.array(5), np.array(6)]), [Window(number=3, start=5, num_frames=2)]))
    assert [int(frame) for frame in frames] == [5, 6]
