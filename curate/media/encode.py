"""Pixels → H.264 in MP4, with the same bytes for the same pixels (`curate.media.x264`)."""

import io
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from curate.media.planes import BT709, Coding
from curate.media.x264 import EncodeConfig

if TYPE_CHECKING:
    import av

FINE_CLOCK = 1000
"""Ticks per second from which on a clock is taken into the file as it is."""


class Mp4Encoder:
    """Encodes frames one by one: only what is encoded is held; `finish` gives the file.

    Of a variable rate the encoder's own decoding times add up to another duration than the frames', and readers that
    trust the header report another rate. So the decoding times are those of presentation, moved back far enough:
    their steps are the frames' durations, in any order of decoding.
    """

    def __init__(
        self,
        config: EncodeConfig,
        *,
        size: tuple[int, int],
        fps: Fraction,
        time_base: Fraction,
        coding: Coding = BT709,
    ) -> None:
        """`size` is `(width, height)`, both even; frames carry pts in units of `time_base`."""
        import av

        width, height = size
        if width % 2 or height % 2:
            raise ValueError(f"{coding.pixel_format} needs even sides, got {width}x{height}")
        self._buffer = io.BytesIO()
        # "bitexact" leaves versions and dates out of the file.
        options = {"fflags": "+bitexact"}
        if time_base.numerator == 1 and time_base.denominator >= FINE_CLOCK:
            # The muxer would multiply a clock of milliseconds by 16, and long frames would not fit into 32 bits.
            options["video_track_timescale"] = str(time_base.denominator)
        self._container = av.open(self._buffer, "w", format="mp4", options=options)
        self._stream = self._container.add_stream("libx264", rate=fps)
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, coding.pixel_format
        self._stream.time_base = self._stream.codec_context.time_base = time_base
        self._stream.codec_context.gop_size = config.gop_frames
        self._stream.codec_context.thread_count = config.num_threads
        self._stream.codec_context.colorspace = coding.matrix
        self._stream.codec_context.color_primaries = coding.primaries
        self._stream.codec_context.color_trc = coding.transfer
        self._stream.codec_context.color_range = coding.range
        self._stream.options = {**config.options}
        self._coding = coding
        self._packets: list[av.Packet] = []
        self._durations: dict[int, int] = {}  # by pts

    def add(self, rgb: np.ndarray, *, pts: int, duration: int) -> None:
        """`(height, width, 3)` uint8; pts increases from call to call."""
        import av

        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(
            format=self._coding.pixel_format,
            dst_colorspace=self._coding.matrix,
            dst_color_range=self._coding.range,
            threads=1,
        )
        self.add_planes(frame, pts=pts, duration=duration)

    def add_planes(self, frame: "av.VideoFrame", *, pts: int, duration: int) -> None:
        """A frame of the encoder's size and coding, which is the encoder's own from now on."""
        from av.video.frame import PictureType

        frame.pict_type = PictureType.NONE  # a decoder's would decide on key frames
        frame.pts, frame.duration, frame.time_base = pts, duration, self._stream.codec_context.time_base
        self._durations[pts] = duration
        self._packets += self._stream.encode(frame)

    def finish(self) -> bytes:
        """The whole file."""
        self._packets += self._stream.encode()
        shown = sorted(self._durations)
        pairs = list(zip(self._packets, shown, strict=True))
        shift = max(pts - (packet.pts or 0) for packet, pts in pairs)
        for packet, pts in pairs:
            # The muxer takes the last packet's for the last step, and the largest end of all for the end of the video.
            packet.duration = self._durations[shown[-1] if pts == shown[-1] else packet.pts or 0]
            packet.dts = pts - shift
            self._container.mux_one(packet)
        self._container.close()
        return self._buffer.getvalue()


def encode_mp4(rgb: np.ndarray, fps: float | Fraction, config: EncodeConfig | None = None) -> bytes:
    """`(T, H, W, 3)` uint8 RGB → an MP4 file at a constant rate. Odd sides lose their last row or column.

    Raises:
        ValueError: Another shape or dtype, no frames, sides under 2 pixels.
    """
    if rgb.ndim != 4 or rgb.shape[-1] != 3 or rgb.dtype != np.uint8 or not len(rgb) or min(rgb.shape[1:3]) < 2:
        raise ValueError(f"expected (T >= 1, H >= 2, W >= 2, 3) uint8, got {rgb.shape} {rgb.dtype}")
    rate = Fraction(fps).limit_denominator(1001)
    height, width = rgb.shape[1] // 2 * 2, rgb.shape[2] // 2 * 2
    encoder = Mp4Encoder(config or EncodeConfig(), size=(width, height), fps=rate, time_base=1 / rate)
    for number, frame in enumerate(rgb[:, :height, :width]):
        encoder.add(np.ascontiguousarray(frame), pts=number, duration=1)
    return encoder.finish()
