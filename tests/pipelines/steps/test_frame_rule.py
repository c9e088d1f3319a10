"""Frames that no latent shows are counted by clip, not by window."""

import pyarrow as pa

from pipelines.steps.frame_rule import frame_rule

RECORD = {"temporal_stride": 4, "config": {"multiple_px": 16}}


def test_windows_that_share_frames_count_them_once():
    stored = pa.table(
        {
            "clip_id": ["a", "a", "b", "image"],
            "start_frame": [1, 8, 0, 0],
            "num_frames": [9, 9, 5, 1],
            "clip_frames": [18, 18, 7, 1],
        }
    )
    told = "1 + 4k frames, sides multiples of 16 px; 4 of 26 frames left out"  # of a the first and the last, of b two
    assert frame_rule(RECORD, stored) == told


def test_an_earlier_index_does_not_tell_the_length_of_clips():
    stored = pa.table({"clip_id": ["a"], "num_frames": [9]})
    assert frame_rule(RECORD, stored) == "1 + 4k frames, sides multiples of 16 px"
    images = {"temporal_stride": 1, "config": {"multiple_px": 8}}
    assert frame_rule(images, stored).startswith("any number of frames, sides multiples of 8 px")
