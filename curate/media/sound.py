"""The sound of a span of a file: samples on the picture's clock, or the packets of its track."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from curate.media.clock import counted_time_base
from curate.media.errors import media_errors
from curate.media.stream import SEEKABLE_CONTAINERS, VideoReader
from curate.schema import FailureKind, Span

if TYPE_CHECKING:
    import av
    from av.audio.stream import AudioStream

PREROLL_S = 1.0
"""Sound before the span that is decoded too: decoders need some packets before their output is right."""

JITTER_S = 0.025
"""Containers round times, to milliseconds and more. A frame within this distance of the end of the one before follows
it without a gap; a larger difference is silence, or an overlap that is left out."""

LAYOUTS = {
    "mono": 1, "stereo": 2, "2.1": 3, "3.0": 3, "4.0": 4, "quad": 4, "5.0": 5, "5.0(side)": 5, "5.1": 6,
    "5.1(side)": 6, "6.1": 7,
}  # fmt: skip
"""Layouts that are read as they are, and their channels."""

MIXED_TO = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "5.1"}
"""Layout by the number of channels, where a file does not say which is which, or has another one. PyAV 18.1 cannot
make frames of eight planes (`findings/pyav_eight_channels.sh`)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SoundTrack:
    """The main sound track of a file, as it is read.

    Attributes:
        codec: FFmpeg's name.
        rate: Samples per second.
        layout: FFmpeg's name of the channels' places: "mono", "stereo", "5.1".
        num_tracks: Sound tracks of the file; `track` is the one that is used, from 0.
    """

    codec: str
    rate: int
    channels: int
    layout: str
    track: int
    num_tracks: int


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sound:
    """`samples` is `(channels, n)` float32, -1 to 1; the first one sounds when the span's first frame is shown.

    `n` is at most what the span takes. It is less where the track ends before the picture.
    """

    track: SoundTrack
    samples: np.ndarray

    @property
    def duration_s(self) -> float:
        return self.samples.shape[1] / self.track.rate


def read_sound(path: str, span: Span) -> Sound | None:
    """The sound of a span; None where the file has no track that can be decoded, or nothing sounds in the span.

    Data that the decoder refuses is silence, as in players. Frames of another rate or layout than the first are
    converted to it.

    Raises:
        MediaError: The kinds of `VideoReader`.
    """
    with VideoReader(path) as reader:
        stream = main_track(reader)
        if stream is None:
            return None
        track, start_s = track_of(reader, stream), start_on_track_s(reader, stream, span)
        samples = np.zeros((track.channels, round(span.duration_s * track.rate)), np.float32)
        filled = 0
        for first, frame in _placed(_frames(reader, stream, start_s), start_s, track):
            begin, end = max(first, 0), min(first + frame.shape[1], samples.shape[1])
            if end > begin:
                samples[:, begin:end] = frame[:, begin - first : end - first]
                filled = max(filled, end)
            if first >= samples.shape[1]:
                break
        return Sound(track=track, samples=samples[:, :filled]) if filled else None


def main_track(reader: VideoReader) -> "AudioStream | None":
    """The track that is marked as default, or else the first; of those that have a decoder."""
    from av.stream import Disposition

    streams = [one for one in reader.container.streams.audio if one.codec_context is not None and one.channels]
    streams = [one for one in streams if one.rate and one.channels in MIXED_TO]
    return max(streams, key=lambda one: bool(one.disposition & Disposition.default), default=None)


def track_of(reader: VideoReader, stream: "AudioStream") -> SoundTrack:
    tracks, name = list(reader.container.streams.audio), stream.layout.name
    layout = name if name in LAYOUTS else MIXED_TO[stream.channels]
    return SoundTrack(
        codec=stream.codec_context.codec.canonical_name,
        rate=stream.rate,
        channels=LAYOUTS[layout],
        layout=layout,
        track=[one.index for one in tracks].index(stream.index),
        num_tracks=len(tracks),
    )


def start_on_track_s(reader: VideoReader, stream: "AudioStream", span: Span) -> float:
    """When the span begins on the track's clock. Where frames are counted, picture and sound begin together."""
    if span.time_base == counted_time_base(reader.fps) and span.time_base != reader.stream_time_base:
        return span.start_s + float((stream.start_time or 0) * (stream.time_base or 0))
    return span.start_s


def _frames(reader: VideoReader, stream: "AudioStream", start_s: float) -> "Iterator[av.AudioFrame]":
    """Decoded frames from a little before `start_s` on."""
    from av.error import FFmpegError

    seek_s = start_s - PREROLL_S
    if seek_s > 0 and reader.container_name in SEEKABLE_CONTAINERS and stream.time_base:
        with media_errors(reader.name, doing="read", invalid=FailureKind.CORRUPT):
            reader.container.seek(int(seek_s / stream.time_base), stream=stream, backward=True)
    with media_errors(reader.name, doing="read", invalid=FailureKind.CORRUPT):
        for packet in reader.container.demux(stream):
            try:
                yield from packet.decode()
            except FFmpegError:
                continue
            if not packet.size and packet.dts is None:
                return


def _placed(frames: "Iterator[av.AudioFrame]", start_s: float, track: SoundTrack) -> Iterator[tuple[int, np.ndarray]]:
    """Number of the first sample, counted from `start_s`, and `(channels, n)` float32 samples of each frame."""
    from av.audio.resampler import AudioResampler

    resampler = AudioResampler(format="fltp", layout=track.layout, rate=track.rate)
    expected: int | None = None
    for frame in frames:
        if frame.time is not None:
            first = round((frame.time - start_s) * track.rate)
            if expected is None or abs(first - expected) > JITTER_S * track.rate:
                expected = first
        if expected is None:
            continue
        for part in resampler.resample(frame):
            samples = part.to_ndarray()
            yield expected, samples
            expected += samples.shape[1]
