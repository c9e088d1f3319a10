"""Mode copy: the source's packets, unchanged, of frames inside the span."""

import io
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

from curate.media.cut import CutConfig, cut_clip
from curate.media.decode import decode_clip
from curate.media.frames import iter_frames
from curate.media.probe import probe
from curate.schema import FailureKind, MediaError, Span
from tests.curate.media.test_exact_frames import NUM_FRAMES, VIDEOS, spans

COPIED = {
    name: VIDEOS[name]
    for name in (
        "b_frames.mp4", "open_gop.mp4", "late_start.mp4", "irregular.mp4", "irregular.mkv", "ntsc.mov", "h264.mkv",
        "h264.ts", "open_gop.ts", "hevc.mp4", "hevc_10_bit.mp4", "vp9.webm", "av1.mp4", "mpeg4.avi",
    )
}  # fmt: skip
COPY = CutConfig(mode="copy")


def packets_of(file: Any) -> list[bytes]:
    with av.open(file) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


@pytest.mark.parametrize("name", COPIED)
def test_frames_are_those_of_the_source_from_a_key_frame_on_and_packets_are_unchanged(
    name: str, numbered, write_video: Callable[..., str]
) -> None:
    path = write_video(name, numbered.draw(NUM_FRAMES), **COPIED[name])
    time_base = probe(path, path, "").time_base
    shown = [(one.pts, one.pts + one.duration) for one in iter_frames(path, short_side_px=48, time_base=time_base)]
    source, num_copied = set(packets_of(path)), 0
    for first, last, span in spans(shown, time_base, 6):
        try:
            clip = cut_clip(path, span, COPY)
        except MediaError as error:
            assert error.kind is FailureKind.NO_FRAMES and last - first < 48
            continue
        num_copied += 1
        begin = [start for start, _ in shown].index(clip.span.start_pts)
        decoded = decode_clip(clip.data)
        assert numbered.read(decoded.rgb) == list(range(begin, begin + clip.num_frames))
        assert first <= begin and begin + clip.num_frames <= last + 1
        times_s = [float((shown[begin + at][0] - shown[begin][0]) * time_base) for at in range(clip.num_frames)]
        np.testing.assert_allclose(decoded.pts_s, times_s, atol=1e-4)
        if not name.endswith(".ts"):  # MP4 counts bytes where TS has start codes
            assert set(packets_of(io.BytesIO(clip.data))) <= source
    assert num_copied >= 3


def test_what_cannot_be_copied_is_told(numbered, write_video: Callable[..., str]) -> None:
    gif = write_video("animation.gif", numbered.draw(30), **VIDEOS["animation.gif"])
    base = probe(gif, gif, "").time_base
    with pytest.raises(MediaError, match="gif is not copied") as told:
        cut_clip(gif, Span(start_pts=0, end_pts=20, time_base=base), COPY)
    assert told.value.kind is FailureKind.UNKNOWN_CODEC
    one = write_video("one_key_frame.mp4", numbered.draw(60), gop=1000)
    base = probe(one, one, "").time_base
    span = Span(start_pts=round(Fraction(1) / base), end_pts=round(Fraction(2) / base), time_base=base)
    with pytest.raises(MediaError, match=r"no key frame in 1\.000-2\.000 s"):
        cut_clip(one, span, COPY)


def test_settings_that_change_frames_are_refused_with_copy() -> None:
    for change in ({"short_side_px": 64}, {"deinterlace": True}):
        with pytest.raises(ValueError, match="mode copy takes frames as they are"):
            CutConfig(mode="copy", **change)


def test_rotation_stays_a_tag_that_readers_follow(numbered, write_video: Callable[..., str]) -> None:
    path = write_video("turned.mp4", numbered.draw(40), rotation=90)
    base = probe(path, path, "").time_base
    clip = cut_clip(path, Span(start_pts=0, end_pts=round(1 / base), time_base=base), COPY)
    assert (clip.written.width, clip.written.height) == (96, 160) and decode_clip(clip.data).rgb.shape[1:3] == (
        160,
        96,
    )
