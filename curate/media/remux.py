"""A span of a file → a file of its own without encoding: the packets between key frames, unchanged.

A stream can be entered at key frames only, so the span moves inward: it begins at its first key frame, and ends before
the first packet that is shown after it. No frame of another shot comes in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import TYPE_CHECKING

from curate.media.mp4 import Mp4File
from curate.media.pixel_shape import MAX_WAITING
from curate.media.stream import VideoReader
from curate.schema import FailureKind, MediaError, Span

if TYPE_CHECKING:
    import av
    from av.container import OutputContainer

COPIED_CODECS = frozenset({"h264", "hevc", "av1", "vp9", "mpeg4"})
"""What MP4 holds and the readers of shards decode."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CopiedPackets:
    """Packets of a stream in order of decoding, and the frames that they show.

    Attributes:
        packets: With the source's times.
        span: What they show, inside the span that was asked for.
        ends: When the first and the last frame begin.
    """

    packets: "tuple[av.Packet, ...]"
    span: Span
    ends: tuple[int, int]


def packets_within(reader: VideoReader, span: Span) -> CopiedPackets:
    """The packets of a span from its first key frame on.

    Frames that are decoded after the first packet beyond the span's end are left out, and the leading frames of an
    open group of pictures: they refer to what is not there.

    Raises:
        MediaError: UNKNOWN_CODEC for a codec that is not copied, or a stream without times; NO_FRAMES where no key
            frame is in the span; CORRUPT.
    """
    codec = reader.stream.codec_context.codec.canonical_name
    if codec not in COPIED_CODECS:
        known = ", ".join(sorted(COPIED_CODECS))
        raise MediaError(FailureKind.UNKNOWN_CODEC, f"{reader.name}: {codec} is not copied ({known} are); encode it")
    if span.time_base != reader.stream_time_base:
        detail = f"{reader.name}: its times cannot be used, so packets cannot be copied; encode it"
        raise MediaError(FailureKind.UNKNOWN_CODEC, detail)
    packets: list[av.Packet] = []
    later: list[int] = []
    source = reader.shown_packets(span.start_pts)
    for packet in source:
        assert packet.pts is not None
        if packet.pts >= span.end_pts and (packets or packet.is_keyframe):
            later = [packet.pts, *(one.pts for one in islice(source, MAX_WAITING) if one.pts is not None)]
            break
        begins = packet.is_keyframe and packet.pts >= span.start_pts
        if begins if not packets else packet.pts > (packets[0].pts or 0):
            packets.append(packet)
    if not packets:
        where = f"{span.start_s:.3f}-{span.end_s:.3f} s"
        raise MediaError(FailureKind.NO_FRAMES, f"{reader.name} has no key frame in {where}; encode it")
    shown = sorted(packet.pts or 0 for packet in packets)
    last = next(packet for packet in packets if packet.pts == shown[-1])
    guessed = shown[-1] + (last.duration or (shown[-1] - shown[-2] if len(shown) > 1 else 1))
    end = min((pts for pts in later if pts > shown[-1]), default=guessed)
    return CopiedPackets(
        packets=tuple(packets),
        span=Span(start_pts=shown[0], end_pts=end, time_base=span.time_base),
        ends=(shown[0], shown[-1]),
    )


class Mp4Copier:
    """A file of packets as they are. `finish` gives it; its first frame is shown at 0."""

    def __init__(self, reader: VideoReader, copied: CopiedPackets) -> None:
        self._file = Mp4File(reader.stream_time_base)
        self._stream = self._file.container.add_stream_from_template(reader.stream, opaque=True)
        self._stream.time_base = reader.stream_time_base
        self._copied = copied

    @property
    def container(self) -> "OutputContainer":
        """For a sound track, which is added before `finish`."""
        return self._file.container

    def finish(self, sound: "Sequence[av.Packet]" = ()) -> bytes:
        """The whole file, with the packets of the sound track."""
        packets, span = self._copied.packets, self._copied.span
        for packet in packets:
            packet.stream = self._stream
            packet.pts = (packet.pts or 0) - span.start_pts
        edges = [*sorted(packet.pts or 0 for packet in packets), span.end_pts - span.start_pts]
        return self._file.finish(packets, {begin: end - begin for begin, end in pairwise(edges)}, sound)
