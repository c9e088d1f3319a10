"""Clips keep their sound: a click lies in the clip where it lies in the source, encoded and copied."""

import io
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

from curate.media.cut import CutConfig, EncodedClip, cut_clip
from curate.media.frames import iter_frames
from curate.media.probe import probe
from curate.media.sound import read_sound
from curate.schema import Span
from tests.support.numbered import click_times_s

NUM_FRAMES = 96
CLICKS_S = (0.4, 1.1, 1.9, 2.6, 3.3)
SOURCES: dict[str, dict[str, Any]] = {
    "aac.mp4": {},
    "aac_48.mp4": {"sound_rate": 48000},
    "late_picture.mp4": {"pts": [number + 7 for number in range(NUM_FRAMES)]},
    "opus.mkv": {"sound_codec": "libopus"},
    "ac3.mkv": {"sound_codec": "ac3", "sound_rate": 48000},
    "mp2.ts": {"sound_codec": "mp2", "container": "mpegts"},
    "pcm.mov": {"sound_codec": "pcm_s16le"},
    "flac.mkv": {"sound_codec": "flac"},
    "pcm.avi": {"sound_codec": "pcm_s16le", "codec": "mpeg4", "num_b_frames": 0},
    "opus.webm": {
        "sound_codec": "libopus", "codec": "libvpx-vp9", "num_b_frames": None,
        "options": {"deadline": "realtime", "cpu-used": "8"},
    },
}  # fmt: skip
AUDIO_FRAME_S = 0.064
"""The longest packet here: 1,024 samples of 16 kHz."""


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest, numbered, write_video: Callable[..., str]):
    """`(path, time base, pts of each frame, seconds from the first frame to the file's zero)`."""
    name = request.param
    path = write_video(name, numbered.draw(NUM_FRAMES), with_sound=True, clicks_s=CLICKS_S, **SOURCES[name])
    time_base = probe(path, path, "").time_base
    pts = [frame.pts for frame in iter_frames(path, short_side_px=48, time_base=time_base)]
    late_s = float(SOURCES[name].get("pts", [0])[0] / Fraction(24))
    return path, time_base, pts, late_s


def clicks_of(clip: EncodedClip) -> list[float]:
    """By a reader of its own: seconds from the clip's first frame on."""
    with av.open(io.BytesIO(clip.data)) as container:
        frames = list(container.decode(audio=0))
    rate = frames[0].sample_rate
    begin = frames[0].time or 0.0
    samples = np.concatenate([frame.to_ndarray().mean(axis=0) for frame in frames])
    return [begin + at for at in click_times_s(samples[None], rate)]


@pytest.mark.parametrize("audio", ["aac", "copy"])
def test_a_click_lies_where_it_lies_in_the_source(source, audio: str) -> None:
    path, time_base, pts, late_s = source
    for first, end in ((0, 60), (20, 90), (37, 80)):
        span = Span(start_pts=pts[first], end_pts=pts[end], time_base=time_base)
        clip = cut_clip(path, span, CutConfig(preset="ultrafast", audio=audio))
        start_s, end_s = first / 24 + late_s, end / 24 + late_s
        expected = [at - start_s for at in CLICKS_S if start_s + 0.1 < at < end_s - 0.1]
        found = [at for at in clicks_of(clip) if 0.1 < at < end_s - start_s - 0.1]
        assert len(found) == len(expected)
        np.testing.assert_allclose(found, expected, atol=AUDIO_FRAME_S if audio == "copy" else 0.03)
        assert clip.num_frames == end - first
        assert abs(clip.sound_s - clip.duration_s) < AUDIO_FRAME_S + 0.01


def test_equal_spans_give_equal_bytes(source) -> None:
    path, time_base, pts, _ = source
    span = Span(start_pts=pts[10], end_pts=pts[70], time_base=time_base)
    config = CutConfig(preset="ultrafast")
    assert cut_clip(path, span, config).data == cut_clip(path, span, config).data


def spans_all(path: str) -> Span:
    video = probe(path, path, "")
    return Span(start_pts=0, end_pts=round(4 / video.time_base), time_base=video.time_base)


def test_a_copied_track_has_the_packets_of_the_source(numbered, write_video: Callable[..., str]) -> None:
    path = write_video("film.mp4", numbered.draw(NUM_FRAMES), with_sound=True, clicks_s=CLICKS_S)
    clip = cut_clip(path, spans_all(path), CutConfig(preset="ultrafast", audio="copy"))

    def packets(file: Any) -> list[bytes]:
        with av.open(file) as container:
            return [bytes(packet) for packet in container.demux(audio=0) if packet.size]

    theirs, ours = packets(path), packets(io.BytesIO(clip.data))
    assert (ours and ours == theirs[len(theirs) - len(ours) :][: len(ours)]) or set(ours) <= set(theirs)


def test_sound_that_ends_early_or_late_and_none_at_all(numbered, write_video: Callable[..., str]) -> None:
    for name, sound_s in (("short.mp4", 1.5), ("long.mp4", 9.0)):
        path = write_video(name, numbered.draw(NUM_FRAMES), with_sound=True, clicks_s=CLICKS_S[:2], sound_s=sound_s)
        clip = cut_clip(path, spans_all(path), CutConfig(preset="ultrafast"))
        assert clip.num_frames == NUM_FRAMES
        assert clip.sound_s == pytest.approx(min(sound_s, 4.0), abs=AUDIO_FRAME_S)
    silent = write_video("silent.mp4", numbered.draw(NUM_FRAMES))
    assert read_sound(silent, spans_all(silent)) is None
    clip = cut_clip(silent, spans_all(silent), CutConfig(preset="ultrafast"))
    assert clip.sound is None and clip.sound_s == 0
    after = write_video("after.mp4", numbered.draw(NUM_FRAMES), with_sound=True, sound_s=0.5)
    base = spans_all(after).time_base
    span = Span(start_pts=round(2 / base), end_pts=round(4 / base), time_base=base)
    assert cut_clip(after, span, CutConfig(preset="ultrafast")).sound is None


def test_sound_can_be_left_out(numbered, write_video: Callable[..., str]) -> None:
    path = write_video("film.mp4", numbered.draw(NUM_FRAMES), with_sound=True)
    clip = cut_clip(path, spans_all(path), CutConfig(preset="ultrafast", audio="none"))
    with av.open(io.BytesIO(clip.data)) as container:
        assert not container.streams.audio and clip.sound is None


def test_the_default_track_of_several_is_taken(tmp_path, numbered) -> None:
    path = str(tmp_path / "two.mkv")
    with av.open(path, "w") as output:
        video: Any = output.add_stream("libx264", rate=24)
        video.width, video.height, video.pix_fmt = 160, 96, "yuv420p"
        tracks: list[Any] = [output.add_stream("aac", rate=rate, layout="mono") for rate in (16000, 32000)]
        tracks[0].disposition, tracks[1].disposition = 0, av.stream.Disposition.default
        for picture in numbered.draw(24):
            output.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(video.encode())
        for track in tracks:
            frame = av.AudioFrame.from_ndarray(np.zeros((1, track.rate), np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts = track.rate, 0
            output.mux([*track.encode(frame), *track.encode()])
    sound = read_sound(path, Span(start_pts=0, end_pts=1, time_base=Fraction(1)))
    assert sound is not None and (sound.track.rate, sound.track.track, sound.track.num_tracks) == (32000, 1, 2)
