"""A file → what decides which reader reads it right, in one pass over its packets. One frame is decoded."""

from fractions import Fraction
from typing import TYPE_CHECKING

from curate.media.clock import DecodedFrame
from curate.media.counter import count_decoded
from curate.media.decode import ClipTimes
from curate.media.errors import media_errors
from curate.media.geometry import geometry, untagged_colorspace
from curate.media.limits import CEILING_PIXELS
from curate.media.readers.base import NotReadError, StreamFacts
from curate.media.stream import VideoReader
from curate.media.tone import PQ_TRANSFER
from curate.schema import FailureKind, MediaError

if TYPE_CHECKING:
    import av

PROGRESSIVE = frozenset({0, 1})  # AV_FIELD_UNKNOWN, AV_FIELD_PROGRESSIVE


def stream_facts(
    source: str | bytes, *, max_pixels: int = CEILING_PIXELS, max_duration_s: float | None = None
) -> StreamFacts:
    """Opens a video, local path or bytes.

    Args:
        source: No still image.
        max_pixels: Of one frame.
        max_duration_s: By the header; a longer file is not read further.

    Raises:
        MediaError: The source is no video, is damaged in its first frame, or has none.
        NotReadError: It is longer.
    """
    from av.video.reformatter import Colorspace

    shown: list[tuple[int, int]] = []
    first: av.VideoFrame | None = None
    key_pts: int | None = None
    hides_frames = has_open_groups = False
    with VideoReader(source, max_pixels=max_pixels) as reader:
        if max_duration_s is not None and (reader.duration_s is None or reader.duration_s > max_duration_s):
            raise NotReadError(f"it is longer than {max_duration_s:g} s")
        with media_errors(reader.name, doing="decode", invalid=FailureKind.CORRUPT):
            for packet in reader.container.demux(reader.stream):
                if first is None and (frames := packet.decode()):
                    count_decoded()
                    first = frames[0]
                if not packet.size:
                    continue
                if packet.pts is None:
                    raise NotReadError("a packet has no timestamp")
                hides_frames |= packet.is_discard
                if packet.is_keyframe:
                    key_pts = packet.pts
                has_open_groups |= key_pts is None or packet.pts < key_pts
                if not packet.is_discard:
                    shown.append((packet.pts, packet.duration or 0))
        if first is None or not shown:
            raise MediaError(FailureKind.NO_FRAMES, f"{reader.name} has a video stream without frames")
        codec, aspect = reader.stream.codec_context, reader.stream.sample_aspect_ratio
        return StreamFacts(
            times=ClipTimes.of_packets(shown, reader.stream_time_base),
            shape=geometry(DecodedFrame(image=first, sample_aspect_ratio=aspect or Fraction(1))),
            container=reader.container_name,
            codec=codec.codec.canonical_name,
            bits=first.format.components[0].bits,
            index=reader.stream.index,
            num_video_streams=len(reader.container.streams.video),
            has_alpha=any(component.is_alpha for component in first.format.components),
            is_interlaced=first.interlaced_frame or codec.field_order not in PROGRESSIVE,
            is_pq=first.color_trc == PQ_TRANSFER,
            is_taken_as_bt709=untagged_colorspace(first) == Colorspace.ITU709,
            hides_frames=hides_frames,
            has_open_groups=has_open_groups,
        )
