"""A pass that skips frames has the times of all of them, and decodes those around what is new."""

from collections.abc import Callable

import numpy as np
import pytest

from curate.media.clock import SkippedFrame
from curate.media.counter import frames_decoded
from curate.media.frames import iter_frames
from curate.media.probe import probe
from curate.media.skipping import NotSkippableError, Quiet, Skipping
from curate.media.stream import VideoReader
from curate.scan import ScanConfig, scan

NO_SCENE_CUTS = {"x264-params": "scenecut=0:keyint=250:bframes=3:b-adapt=0", "crf": "23"}


@pytest.fixture
def film(draw_scenes: Callable[..., np.ndarray], write_video: Callable[..., str]) -> str:
    """Cuts at all places of a run of B-frames, none of them at a key frame."""
    return write_video("film.mp4", draw_scenes((41, 42, 43, 44, 40), width=160, height=96), options=NO_SCENE_CUTS)


def test_frames_that_are_skipped_have_their_times_and_look_like_their_neighbors(film: str) -> None:
    full = list(iter_frames(film, short_side_px=48))
    fast = list(iter_frames(film, short_side_px=48, is_sparse=True))
    assert [(one.pts, one.duration, one.shape) for one in fast] == [(one.pts, one.duration, one.shape) for one in full]
    assert sum(one.is_skipped for one in fast) > len(full) / 4
    errors = [np.abs(one.rgb.astype(float) - other.rgb).mean() for one, other in zip(fast, full, strict=True)]
    assert max(errors) < 12


def test_cuts_between_frames_that_no_other_refers_to_are_found(film: str) -> None:
    video = probe(film, film, "v")
    before = frames_decoded()
    fast = scan(video, film, ScanConfig(decode="fast"))
    decoded = frames_decoded() - before
    full = scan(video, film, ScanConfig())
    assert [clip.clip.num_frames for clip in fast.clips] == [41, 42, 43, 44, 40]
    assert [clip.clip for clip in fast.clips] == [clip.clip for clip in full.clips]
    assert decoded < 0.8 * full.num_decoded_frames == 0.8 * fast.num_decoded_frames


def test_a_pass_from_a_time_on_is_the_end_of_a_whole_one(film: str) -> None:
    whole = list(iter_frames(film, short_side_px=48, is_sparse=True))
    skipped = next(number for number, one in enumerate(whole) if one.is_skipped and number > 60)
    for number in (skipped, skipped + 1):
        later = list(iter_frames(film, short_side_px=48, is_sparse=True, from_pts=whole[number].pts))
        assert [one.pts for one in later] == [one.pts for one in whole[number:]]
        assert all((one.rgb == other.rgb).all() for one, other in zip(later, whole[number:], strict=True))


def test_a_packet_that_gives_no_frame_ends_the_fast_pass(film: str) -> None:
    with VideoReader(film, is_sparse=True) as reader:
        assert any(isinstance(frame, SkippedFrame) for frame in reader.sparse_frames(Quiet(reader.stream_time_base)))
        skipping = Skipping(reader.stream, Quiet(reader.stream_time_base))
        packet = next(reader.shown_packets())
        skipping.before(packet)
        with pytest.raises(NotSkippableError, match="gave no frame"):
            list(skipping.missing(None, None))
