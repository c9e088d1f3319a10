"""The sound track of a clip that is written: encoded as AAC, or the source's own packets."""

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from curate.media.errors import media_errors
from curate.media.sound import PREROLL_S, Sound, SoundTrack, main_track, read_sound, start_on_track_s, track_of
from curate.media.stream import SEEKABLE_CONTAINERS, VideoReader
from curate.schema import FailureKind, Span

if TYPE_CHECKING:
    import av
    from av.audio.stream import AudioStream
    from av.container import OutputContainer

AAC_RATES = frozenset({96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000})
OTHER_RATE = 48000
"""Sound of a rate that AAC does not have is resampled to this one."""

BITS_PER_CHANNEL = 96_000
"""Per second."""

MP4_CODECS = frozenset({"aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"})
"""What MP4 holds and common players read. Other tracks are encoded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AddedSound:
    """A track of a container that is being written.

    Attributes:
        track: What is written.
        duration_s: How long it sounds, from the clip's first frame on.
        packets: In order of decoding, not yet in the file.
    """

    track: SoundTrack
    duration_s: float
    packets: "tuple[av.Packet, ...]"


def add_sound(container: "OutputContainer", path: str, span: Span, *, copy: bool) -> AddedSound | None:
    """Adds the sound of a span to a clip; None where nothing sounds in it.

    Encoded sound begins with the clip's first frame, to the sample: an edit list leaves the encoder's delay out.
    Copied sound begins with the packet that sounds then, at most its length earlier; an edit list leaves that part
    out.

    Args:
        container: Of the clip; nothing is written to it yet.
        path: Local file of the source.
        span: Of the picture.
        copy: Take the source's packets, where MP4 holds its codec.

    Raises:
        MediaError: The kinds of `VideoReader`.
    """
    if copy:
        with VideoReader(path) as reader:
            stream = main_track(reader)
            if stream is not None and stream.codec_context.codec.canonical_name in MP4_CODECS:
                return _copied(container, reader, stream, span)
    sound = read_sound(path, span)
    return None if sound is None else _encoded(container, sound)


def _encoded(container: "OutputContainer", sound: Sound) -> AddedSound:
    import av
    from av.audio.resampler import AudioResampler

    source = sound.track
    rate = source.rate if source.rate in AAC_RATES else OTHER_RATE
    stream = container.add_stream("aac", rate=rate, layout=source.layout)
    stream.bit_rate = BITS_PER_CHANNEL * source.channels
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound.samples), "fltp", source.layout)
    frame.rate, frame.pts, frame.time_base = source.rate, 0, Fraction(1, source.rate)
    frames: list[av.AudioFrame | None] = [frame]
    if source.rate != rate:
        resampler = AudioResampler(format="fltp", layout=source.layout, rate=rate)
        frames = [*resampler.resample(frame), *resampler.resample(None)]
    packets = tuple(packet for part in (*frames, None) for packet in stream.encode(part))
    track = replace(source, codec="aac", rate=rate, track=0, num_tracks=1)
    return AddedSound(track=track, duration_s=sound.duration_s, packets=packets)


def _copied(container: "OutputContainer", reader: VideoReader, stream: "AudioStream", span: Span) -> AddedSound | None:
    base, start_s = Fraction(stream.time_base or 1), start_on_track_s(reader, stream, span)
    packets = _packets_between(reader, stream, start_s, start_s + span.duration_s)
    if not packets:
        return None
    target = container.add_stream_from_template(stream, opaque=True)
    target.time_base = base
    shift = round(start_s / base)
    for packet in packets:
        packet.stream = target
        packet.pts = packet.dts = (packet.pts or 0) - shift
    last = packets[-1]
    return AddedSound(
        track=replace(
            track_of(reader, stream), channels=stream.channels, layout=stream.layout.name, track=0, num_tracks=1
        ),
        duration_s=float(((last.pts or 0) + (last.duration or 0)) * base),
        packets=tuple(packets),
    )


def _packets_between(reader: VideoReader, stream: "AudioStream", start_s: float, end_s: float) -> "list[av.Packet]":
    """The packets that sound in the interval, by the track's clock."""
    base, packets = Fraction(stream.time_base or 1), []
    with media_errors(reader.name, doing="read", invalid=FailureKind.CORRUPT):
        if start_s > PREROLL_S and reader.container_name in SEEKABLE_CONTAINERS:
            reader.container.seek(int((start_s - PREROLL_S) / base), stream=stream, backward=True)
        for packet in reader.container.demux(stream):
            if packet.pts is None or not packet.size:
                continue
            if packet.pts * base >= end_s:
                break
            if (packet.pts + (packet.duration or 0)) * base > start_s:
                packets.append(packet)
    return packets
