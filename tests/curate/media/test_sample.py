"""Sampling decodes what the sampled frames need, and gives the pixels of a full decode."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from curate.media.counter import frames_decoded
from curate.media.frames import iter_frames
from curate.media.probe import probe
from curate.media.sample import moments, sample_frames
from curate.schema import Span

LENGTHS = (41, 55)
ENCODINGS = {
    "plain": "bframes=3",
    "no_pyramid": "bframes=5:b-pyramid=none:b-adapt=0",
    "open_gop": "bframes=3:open-gop=1:keyint=30:scenecut=0",
    "intra_refresh": "bframes=2:intra-refresh=1:keyint=20",
    "interlaced": "bframes=3:tff=1:weightp=2",
    "temporal_direct": "bframes=3:direct=temporal:ref=5",
    "constant_quality": "bframes=8:qp=30:deblock=3,3",
}


NO_INDEX = ("film.mkv", "film.ts")
"""Or one at the end, which is not read for a clip at the start."""


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_pixels_are_those_of_a_decode_of_all_frames(
    encoding: str, draw_scenes: Callable[..., np.ndarray], write_video: Callable[..., str]
) -> None:
    options = {"x264-params": ENCODINGS[encoding], "preset": "fast"}
    path = write_video("film.mp4", draw_scenes(LENGTHS), options=options, gop=250, num_b_frames=None)
    full = list(iter_frames(path, short_side_px=96))
    time_base = probe(path, path, "").time_base
    for first, count in ((0, 3), (7, 5), (50, 8)):
        span = Span(start_pts=full[first].pts, end_pts=full[-1].pts + full[-1].duration, time_base=time_base)
        before = frames_decoded()
        sampled = sample_frames(path, span, count, short_side_px=96)
        decoded = frames_decoded() - before
        wanted = [next(one for one in reversed(full) if one.pts <= moment) for moment in moments(span, count)]
        np.testing.assert_array_equal(sampled.rgb, np.stack([one.rgb for one in wanted]))
        assert decoded < (2 if encoding == "intra_refresh" else 0.9) * len(full)


@pytest.mark.parametrize("name", ["film.mp4", "film.avi", "film.mkv", "film.ts"])
def test_between_moments_it_enters_at_a_key_frame(
    name: str, draw_scenes: Callable[..., np.ndarray], write_video: Callable[..., str]
) -> None:
    options = {"container": "mpegts"} if name.endswith("ts") else {}
    path = write_video(name, draw_scenes(LENGTHS), gop=8, num_b_frames=0, **options)
    full = list(iter_frames(path, short_side_px=96))
    span = Span(start_pts=full[0].pts, end_pts=full[-1].pts, time_base=probe(path, path, "").time_base)
    before = frames_decoded()
    sampled = sample_frames(path, span, 4, short_side_px=96)
    decoded = frames_decoded() - before
    wanted = [next(one for one in reversed(full) if one.pts <= moment) for moment in moments(span, 4)]
    np.testing.assert_array_equal(sampled.rgb, np.stack([one.rgb for one in wanted]))
    assert decoded < len(full) / 4 or name in NO_INDEX


def test_packets_with_wrong_durations_cost_no_frame(numbered: Any, write_video: Callable[..., str]) -> None:
    """Of B-frames at a variable rate, a container's durations are those between times of decoding."""
    times = np.cumsum(np.random.default_rng(0).integers(1, 90, 48)).tolist()
    path = write_video("film.mp4", numbered.draw(48), pts=times, time_base=Fraction(1, 1000), num_b_frames=3)
    full = list(iter_frames(path, short_side_px=48))
    span = Span(start_pts=full[0].pts, end_pts=full[-1].pts, time_base=probe(path, path, "").time_base)
    sampled = sample_frames(path, span, 9, short_side_px=48)
    wanted = sorted({max(one.pts for one in full if one.pts <= moment) for moment in moments(span, 9)})
    assert sampled.pts.tolist() == wanted
