"""Sampling and cutting give the very frames that a pass from the start shows at those times, in every container."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

from curate.media.clock import UnreliableTimestampsError, counted_time_base
from curate.media.cut import CutConfig, EncodedClip, cut_clip, cut_clips
from curate.media.decode import decode_clip
from curate.media.frames import iter_frames
from curate.media.probe import probe
from curate.media.sample import moments, sample_frames
from curate.schema import FailureKind, MediaError, Span

NUM_FRAMES = 96
IRREGULAR = np.cumsum(np.random.default_rng(0).integers(20, 90, NUM_FRAMES)).tolist()
OPEN_GOP = {"x264-params": "open-gop=1:bframes=3:keyint=15:scenecut=0", "crf": "14"}
FAST_HEVC = {"preset": "ultrafast", "crf": "16", "x265-params": "log-level=none"}
VIDEOS: dict[str, dict[str, Any]] = {
    "b_frames.mp4": {},
    "no_b_frames.mp4": {"num_b_frames": 0},
    "open_gop.mp4": {"options": OPEN_GOP},
    "one_key_frame.mp4": {"gop": 1000},
    "late_start.mp4": {"pts": [37 + number for number in range(NUM_FRAMES)]},
    "edit_list.mp4": {"pts": [number - 10 for number in range(NUM_FRAMES)]},
    "irregular.mp4": {"pts": IRREGULAR, "time_base": Fraction(1, 1000)},
    "irregular.mkv": {"pts": IRREGULAR, "time_base": Fraction(1, 1000)},
    "ntsc.mov": {"fps": Fraction(30000, 1001)},
    "h264.mkv": {},
    "h264.ts": {"container": "mpegts"},
    "open_gop.ts": {"container": "mpegts", "options": OPEN_GOP},
    "mpeg2.ts": {"codec": "mpeg2video", "container": "mpegts", "options": {"b": "2000000"}},
    "mpeg2.mpg": {"codec": "mpeg2video", "container": "mpeg", "options": {"b": "2000000"}},
    "mpeg4.avi": {"codec": "mpeg4", "num_b_frames": 0},
    "mpeg4_b.avi": {"codec": "mpeg4"},
    "h264_without_times.avi": {},
    "bare.h264": {"container": "h264"},
    "h264.flv": {"container": "flv"},
    "hevc.mp4": {"codec": "libx265", "num_b_frames": None, "options": FAST_HEVC},
    "hevc_10_bit.mp4": {
        "codec": "libx265",
        "num_b_frames": None,
        "pixel_format": "yuv420p10le",
        "options": FAST_HEVC,
    },
    "av1.mp4": {"codec": "libsvtav1", "num_b_frames": None, "options": {"preset": "12", "crf": "20"}},
    "vp9.webm": {"codec": "libvpx-vp9", "num_b_frames": None, "options": {"deadline": "realtime", "cpu-used": "8"}},
    "animation.gif": {"codec": "gif", "pixel_format": "rgb8", "num_b_frames": None},
}
NUMBERS_IN_FILE = {"edit_list.mp4": range(10, NUM_FRAMES)}  # what lies before time zero is not shown


@pytest.fixture(params=VIDEOS)
def pass_over(request: pytest.FixtureRequest, numbered, write_video: Callable[..., str]):
    """`(path, time base, [(start, end)] of each frame, its number)` by one pass from the start."""
    name = request.param
    path = write_video(name, numbered.draw(NUM_FRAMES), **VIDEOS[name])
    video = probe(path, path, "")
    time_base = video.time_base
    try:
        frames = list(iter_frames(path, short_side_px=96, time_base=time_base))
    except UnreliableTimestampsError:
        time_base = counted_time_base(video.fps)
        frames = list(iter_frames(path, short_side_px=96, time_base=time_base))
    numbers = numbered.read(np.stack([frame.rgb for frame in frames]))
    assert numbers == list(NUMBERS_IN_FILE.get(name, range(NUM_FRAMES)))
    return path, time_base, [(frame.pts, frame.pts + frame.duration) for frame in frames], numbers


def spans(shown: list[tuple[int, int]], time_base: Fraction, count: int):
    rng = np.random.default_rng(1)
    for _ in range(count):
        first, last = sorted(rng.integers(0, len(shown), 2).tolist())
        yield first, last, Span(start_pts=shown[first][0], end_pts=shown[last][1], time_base=time_base)


def test_sampled_frames_are_those_of_the_pass(pass_over, numbered) -> None:
    path, time_base, shown, numbers = pass_over
    for _, _, span in spans(shown, time_base, 8):
        sampled = sample_frames(path, span, 5, short_side_px=48)
        wanted = {
            number
            for moment in moments(span, 5)
            for (start, end), number in zip(shown, numbers, strict=True)
            if start <= moment < end
        }
        assert numbered.read(sampled.rgb) == sorted(wanted)
        assert [shown[numbers.index(number)][0] for number in sorted(wanted)] == sampled.pts.tolist()


def test_cut_clip_holds_exactly_the_frames_of_the_span(pass_over, numbered) -> None:
    path, time_base, shown, numbers = pass_over
    for first, last, span in spans(shown, time_base, 3):
        clip = cut_clip(path, span, CutConfig(preset="ultrafast"))
        decoded = decode_clip(clip.data)
        assert numbered.read(decoded.rgb) == numbers[first : last + 1]
        assert clip.num_frames == decoded.num_source_frames == last - first + 1
        times_s = [float((start - shown[first][0]) * time_base) for start, _ in shown[first : last + 1]]
        np.testing.assert_allclose(decoded.pts_s, times_s, atol=1e-4)


def test_clips_of_one_pass_are_those_cut_alone(pass_over) -> None:
    path, time_base, shown, _ = pass_over
    edges = [(1, 12), (12, 13), (16, 30), (60, 66), (66, len(shown))]
    spans = [Span(start_pts=shown[a][0], end_pts=shown[b - 1][1], time_base=time_base) for a, b in edges if a < b]
    config = CutConfig(preset="ultrafast")
    together = list(cut_clips(path, spans, config))
    assert together == [cut_clip(path, span, config) for span in spans]


def test_damage_between_two_clips_costs_neither(write_video: Callable[..., str], numbered) -> None:
    path = write_video("a.mp4", numbered.draw(60), num_b_frames=0)
    with av.open(path) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    with open(path, "r+b") as file:
        for packet in packets[26:35]:
            file.seek((packet.pos or 0) + 4)
            file.write(b"\x65" + bytes(range(packet.size - 5)))
    spans = [Span(start_pts=a * 512, end_pts=b * 512, time_base=Fraction(1, 12288)) for a, b in
             ((0, 24), (24, 36), (36, 48), (48, 60))]  # fmt: skip
    first, damaged, *others = cut_clips(path, spans, CutConfig(preset="ultrafast"))
    assert isinstance(damaged, MediaError) and damaged.kind is FailureKind.CORRUPT
    apart = list(cut_clips(path, [spans[0], *spans[2:]], CutConfig(preset="ultrafast")))
    assert [first, *others] == apart
    assert all(isinstance(clip, EncodedClip) and clip.num_frames for clip in apart)


def test_far_apart_moments_are_sought_exactly(numbered, write_video: Callable[..., str]) -> None:
    path = write_video("slow.mp4", numbered.draw(60), fps=Fraction(1, 2))
    frames = list(iter_frames(path, short_side_px=96))
    span = Span(start_pts=0, end_pts=frames[-1].pts + frames[-1].duration, time_base=probe(path, "", "").time_base)
    sampled = sample_frames(path, span, 6, short_side_px=None)
    assert numbered.read(sampled.rgb) == [5, 15, 25, 35, 45, 55]


def test_span_outside_the_file_has_no_frames(numbered, write_video: Callable[..., str]) -> None:
    path = write_video("a.mp4", numbered.draw(12))
    span = Span(start_pts=10**7, end_pts=10**7 + 100, time_base=probe(path, "", "").time_base)
    for read in (lambda: sample_frames(path, span, 2, short_side_px=None), lambda: cut_clip(path, span, CutConfig())):
        with pytest.raises(MediaError) as error:
            read()
        assert error.value.kind is FailureKind.NO_FRAMES
