"""Pixels → a file in MP4, with the same bytes for the same pixels (`curate.media.codecs`)."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

import numpy as np

from curate.media.codecs import EncodeConfig
from curate.media.mp4 import Mp4File
from curate.media.planes import BT709, Coding
from curate.media.scheduling import own_scheduling

if TYPE_CHECKING:
    import av
    from av.container import OutputContainer
    from av.video.stream import VideoStream


class Mp4Encoder:
    """Encodes frames one by one: only what is encoded is held; `finish` gives the file."""

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
        width, height = size
        if width % 2 or height % 2:
            raise ValueError(f"{coding.pixel_format} needs even sides, got {width}x{height}")
        self._file = Mp4File(time_base)
        self._stream = cast("VideoStream", self._file.container.add_stream(config.encoder, rate=fps))
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
        with own_scheduling():  # the first frame opens the encoder
            self._packets += self._stream.encode(frame)

    @property
    def container(self) -> "OutputContainer":
        """For a sound track, which is added before `finish`."""
        return self._file.container

    def finish(self, sound: "Sequence[av.Packet]" = ()) -> bytes:
        """The whole file, with the packets of the sound track."""
        self._packets += self._stream.encode()
        return self._file.finish(self._packets, self._durations, sound)


def encode_mp4(
    rgb: np.ndarray,
    fps: float | Fraction,
    config: EncodeConfig | None = None,
    *,
    tags: Mapping[str, str] = MappingProxyType({}),
) -> bytes:
    """`(T, H, W, 3)` uint8 RGB → an MP4 file at a constant rate. Odd sides lose their last row or column. `tags` are
    those that players show: `description`, `comment`, ….

    Raises:
        ValueError: Another shape or dtype, no frames, sides under 2 pixels.
    """
    if rgb.ndim != 4 or rgb.shape[-1] != 3 or rgb.dtype != np.uint8 or not len(rgb) or min(rgb.shape[1:3]) < 2:
        raise ValueError(f"expected (T >= 1, H >= 2, W >= 2, 3) uint8, got {rgb.shape} {rgb.dtype}")
    rate = Fraction(fps).limit_denominator(1001)
    height, width = rgb.shape[1] // 2 * 2, rgb.shape[2] // 2 * 2
    encoder = Mp4Encoder(config or EncodeConfig(), size=(width, height), fps=rate, time_base=1 / rate)
    encoder.container.metadata.update(tags)
    for number, frame in enumerate(rgb[:, :height, :width]):
        encoder.add(np.ascontiguousarray(frame), pts=number, duration=1)
    return encoder.finish()
