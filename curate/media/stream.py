"""An open video stream: its geometry, its clock, its frames from any time on.

Everything in `curate.media` that decodes video goes through `VideoReader`: the sequential pass, sampling and cutting
therefore agree on the time of each frame. PyAV is imported on opening only.
"""

import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from typing import TYPE_CHECKING, Self, cast

from curate.media.clock import (
    DecodedFrame,
    SkippedFrame,
    TimedFrame,
    counted,
    counted_time_base,
    declared_fps,
    timed,
)
from curate.media.counter import count_decoded, count_frame
from curate.media.errors import media_errors
from curate.media.limits import CEILING_PIXELS, READ_LIMIT_S, check_size
from curate.media.open_stream import open_stream
from curate.media.pixel_shape import PixelShape
from curate.media.skipping import Skipping, SkipRule
from curate.schema import FailureKind, MediaError

if TYPE_CHECKING:
    import av
    import av.container

SEEKABLE_CONTAINERS = frozenset({"mov", "matroska", "mpegts", "avi"})
"""Containers in which a seek was tested to land where it should and to give the same times as a pass from the start.
Other files are decoded from their start."""

OPEN_ENDED_CONTAINERS = frozenset({"mpegts", "mpeg"})
"""Recordings of broadcasts, which stop anywhere: their last frame may be incomplete, and is left out then."""

AVI_SLACK_S = 1.0
"""Headers of AVI count some frames more than there are."""

SEEK_GAP_S = 4.0
"""Where no index tells where the key frames are, one is expected between times further apart than this, in seconds."""

MAX_REORDERED = 4
"""Frames by which a key frame is commonly shown later than its time in an index, that of decoding."""

SEEK_MARGINS_S = (0, 2, 10)
"""How far before the wanted time to seek, in turn, until a decodable frame is at or before it."""


class VideoReader:
    """Frames of one file's main video stream. Use it in a `with` statement.

    Attributes:
        name: For messages.
        fps: Average rate by the header (`curate.media.clock.declared_fps`).
        stream_time_base: That of the stream.
        container_name: FFmpeg's first name for the container: "mov" for MP4 too.
    """

    def __init__(
        self,
        source: str | bytes,
        *,
        time_limit_s: float | None = READ_LIMIT_S,
        max_pixels: int = CEILING_PIXELS,
        is_sparse: bool = False,
    ) -> None:
        """Opens a local file, or a file's bytes.

        Args:
            source: The path or the bytes.
            time_limit_s: Wall-clock seconds from now on after which reading on is a TIMEOUT; None: no limit.
            max_pixels: Of one frame; more is TOO_LARGE.
            is_sparse: Without the decoder's loop filter: pixels are rough. For `sparse_frames`.

        Raises:
            MediaError: MISSING, PERMISSION, NOT_MEDIA, NO_VIDEO_STREAM, UNKNOWN_CODEC, TOO_LARGE or TRUNCATED (no
                index).
        """
        self._source = source
        self._time_limit_s = time_limit_s
        self._max_pixels = max_pixels
        self._is_sparse = is_sparse
        self._main: int | None = None
        self._start_s = time.monotonic()
        self.name = source if isinstance(source, str) else "the clip"
        self._open()
        self._is_at_start = True
        self._enters = True
        self.container_name = self.container.format.name.split(",")[0]
        self.fps = declared_fps(self.stream)
        self.stream_time_base = Fraction(self.stream.time_base or counted_time_base(self.fps))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._close()

    @property
    def duration_s(self) -> float | None:
        """What the header declares, of the stream or else of the file."""
        if self.stream.duration is not None and self.stream.time_base is not None:
            return float(self.stream.duration * self.stream.time_base)
        return None if self.container.duration is None else self.container.duration / 1e6

    @property
    def can_skip(self) -> bool:
        """Whether frames that are decoded are the same when those are skipped that no other refers to: H.264 marks
        these, and forbids to refer to them. HEVC marks what its own temporal layer does not refer to."""
        return bool(self.stream.codec_context.name == "h264")

    def can_enter_between(self, after_pts: int, until_pts: int, time_base: Fraction) -> bool:
        """Whether a seek to `until_pts` enters the stream after `after_pts`."""
        if self.container_name not in SEEKABLE_CONTAINERS or time_base != self.stream_time_base:
            return False
        index = self.stream.index_entries
        if not len(index) or index[-1].timestamp < until_pts:  # some are read with the packets
            return (until_pts - after_pts) * time_base > SEEK_GAP_S
        entry = index.search_timestamp(until_pts - int(MAX_REORDERED / (self.fps * time_base)))
        return self._enters and entry >= 0 and bool(index[entry].timestamp > after_pts)

    def frames(
        self, time_base: Fraction, *, from_pts: int | None = None, is_work: bool = True
    ) -> Iterator[TimedFrame]:
        """All frames in order of presentation, or those from the one that is shown at `from_pts` on.

        A second call ends the first one's iterator.

        Args:
            time_base: The stream's own, or `counted_time_base(fps)`.
            from_pts: In units of `time_base`.
            is_work: Whether the frames count for the progress of a step.

        Raises:
            MediaError: CORRUPT where the decoder refuses data or conceals damage.
            UnreliableTimestampsError: In the stream's time base only.
        """
        assert not self._is_sparse
        frames: Iterator[TimedFrame | SkippedFrame] | None = None
        if time_base != self.stream_time_base:
            frames = counted(cast("Iterator[DecodedFrame]", self._decoded()))
        elif from_pts is not None:
            frames = self._sought(from_pts)
        for frame in cast("Iterator[TimedFrame]", frames or timed(self._decoded())):
            if from_pts is None or frame.pts + frame.duration > from_pts:
                if is_work:
                    count_frame(float(frame.duration * time_base))
                yield frame

    def sparse_frames(self, rule: SkipRule, *, from_pts: int | None = None) -> Iterator[TimedFrame | SkippedFrame]:
        """All frames in the stream's own time, those skipped that the rule allows and that no other refers to. They
        begin with a decoded frame at or before `from_pts`.

        Raises:
            MediaError: CORRUPT where the decoder refuses data or conceals damage, in what is decoded.
            UnreliableTimestampsError: As for `frames`.
            NotSkippableError: The file is to be read with `frames`.
        """
        frames = None if from_pts is None else self._sought(from_pts, rule)
        for frame in frames or timed(self._decoded(rule=rule)):
            if from_pts is None or frame.pts + frame.duration > from_pts:
                count_frame(float(frame.duration * self.stream_time_base))
            yield frame

    def shown_packets(self, from_pts: int | None = None) -> "Iterator[av.Packet]":
        """The packets of frames that are shown, in order of decoding; decodes nothing.

        Args:
            from_pts: Begin at a key frame before this time of the stream; None: at the first packet.

        Raises:
            MediaError: CORRUPT, also where a packet has no time.
        """
        self._rewind()
        self._is_at_start = False
        with media_errors(self.name, doing="read", invalid=FailureKind.CORRUPT):
            if from_pts is not None and self.container_name in SEEKABLE_CONTAINERS:
                target = from_pts - int(SEEK_MARGINS_S[1] / self.stream_time_base)
                if target > (self.stream.start_time or 0):
                    self.container.seek(target, stream=self.stream, backward=True)
            for packet in self._packets():
                if not packet.size or packet.is_discard:
                    continue
                if packet.pts is None:
                    raise MediaError(FailureKind.CORRUPT, f"{self.name}: a packet has no timestamp")
                yield packet

    def _sought(self, from_pts: int, rule: SkipRule | None = None) -> Iterator[TimedFrame | SkippedFrame] | None:
        """Frames from the one at `from_pts` on, entered at a key frame before it; with a rule from the key frame on.
        None where that does not work."""
        if self.container_name not in SEEKABLE_CONTAINERS:
            return None
        for margin_s in SEEK_MARGINS_S:
            target = from_pts - int(margin_s / self.stream_time_base)
            if target <= (self.stream.start_time or 0):
                return None
            try:
                frames = timed(self._decoded(seek_pts=target, rule=rule))
                entered = False
                for frame in frames:
                    entered = entered or frame.pts <= from_pts
                    if not entered:
                        break
                    if rule is not None or frame.pts + frame.duration > from_pts:
                        return chain([frame], frames)
            except MediaError:
                # Entered where it cannot be decoded. If that is the file's fault, the read from its start will say so.
                pass
            self._enters = False  # what is marked as a key frame may be none: intra refresh
        return None

    def _decoded(self, seek_pts: int | None = None, rule: SkipRule | None = None) -> Iterator[DecodedFrame | int]:
        """What the decoder gives, from the first key frame on; without `seek_pts` from the file's start. Of a frame
        that was skipped, its pts."""
        first_pts: int | None = None
        started = shown = False
        damage: MediaError | None = None
        last_pts: int | None = None
        shape = PixelShape(self.stream)
        if seek_pts is None:
            self._rewind()
        self._is_at_start = False
        self.stream.codec_context.skip_frame = "DEFAULT"
        skipping = None if rule is None else Skipping(self.stream, rule)
        with media_errors(self.name, doing="decode", invalid=FailureKind.CORRUPT):
            if seek_pts is not None:
                self.container.seek(seek_pts, stream=self.stream, backward=True)
            for packet in self._packets():
                if not started:
                    # What precedes the first key frame refers to frames that are not there.
                    if not packet.is_keyframe:
                        continue
                    started = True
                    first_pts = packet.pts if seek_pts is not None else None
                if skipping is not None:
                    skipping.before(packet)
                frames = packet.decode()
                shape.after(packet.pts)
                for frame in frames:
                    count_decoded()
                    check_size(self.name, frame.width, frame.height, self._max_pixels)
                    if skipping is not None:
                        yield from skipping.missing(frame.pts, first_pts)
                    # After a seek the leading frames of an open group of pictures are incomplete.
                    if first_pts is not None and frame.pts is not None and frame.pts < first_pts:
                        continue
                    if damage is not None:
                        raise damage
                    if not frame.is_corrupt:
                        shown = True
                        last_pts = frame.pts
                        yield DecodedFrame(image=frame, sample_aspect_ratio=shape.of(frame.pts))
                    elif shown:
                        damage = MediaError(FailureKind.CORRUPT, f"{self.name}: damaged frame at {frame.time} s")
        if skipping is not None:
            yield from skipping.missing(None, first_pts)
        if seek_pts is None:
            self._check_end(last_pts)
        if damage is not None and self.container_name not in OPEN_ENDED_CONTAINERS:
            raise damage

    def _packets(self) -> "Iterator[av.Packet]":
        """The stream's packets from here on, and an empty one at the end: it makes the decoder give what it holds."""
        for packet in self.container.demux(self.stream):
            # Here, because a broken file can have endless packets without a frame.
            if self._time_limit_s is not None and time.monotonic() > self._start_s + self._time_limit_s:
                raise MediaError(FailureKind.TIMEOUT, f"{self.name} took more than {self._time_limit_s} s")
            yield packet
            # No further: of streams that appeared on the way, PyAV asks for their last packets too, and fails.
            if not packet.size and packet.dts is None:
                return

    def _check_end(self, last_pts: int | None) -> None:
        """In AVI, damage makes the demuxer skip what it cannot parse, without a word: compare with the header."""
        if self.container_name != "avi" or last_pts is None or self.stream.duration is None:
            return
        missing_s = float((self.stream.duration - last_pts) * self.stream_time_base)
        if missing_s > AVI_SLACK_S:
            detail = f"{self.name}: the header declares {missing_s:.2f} s more than could be read"
            raise MediaError(FailureKind.CORRUPT, detail)

    def _rewind(self) -> None:
        """Back to the start by opening the file again: seeking there is not exact in every container."""
        if not self._is_at_start:
            self._close()
            self._open()
            self._is_at_start = True

    def _open(self) -> None:
        opened = open_stream(
            self._source,
            self.name,
            index=self._main,
            time_limit_s=self._time_limit_s,
            max_pixels=self._max_pixels,
            is_sparse=self._is_sparse,
        )
        self.container, self.stream, self._close = opened.container, opened.stream, opened.close
        self._main = opened.stream.index
