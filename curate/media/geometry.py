"""From a decoded frame to upright RGB with square pixels, in one pass of libswscale."""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, cast

import numpy as np

from curate.media.clock import DecodedFrame
from curate.media.tone import PQ_TRANSFER, tone_mapped

if TYPE_CHECKING:
    import av
    from av.sidedata.sidedata import SideData
    from av.video.reformatter import VideoReformatter

UNSPECIFIED_COLORSPACE = 2  # AVCOL_SPC_UNSPECIFIED
SCALED_AS_YUV = frozenset({"yuv420p", "yuv422p"})
"""Formats that are scaled before they are made RGB, where that is asked for."""

MAX_ASPECT_CORRECTION = 4
"""A sample aspect ratio beyond this is a broken header, and is ignored."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Geometry:
    """Of a stretch of a stream. `coded_*` are the decoder's pixels. A player exchanges left and right where it is
    `mirrored`, then turns by `rotation` degrees counter-clockwise, a multiple of 90. `sample_aspect_ratio` is width
    over height of a coded pixel."""

    coded_width: int
    coded_height: int
    rotation: int
    mirrored: bool
    sample_aspect_ratio: Fraction

    @property
    def display_size(self) -> tuple[int, int]:
        """`(width, height)` in pixels, upright, before correction of the sample aspect ratio."""
        if self.rotation % 180:
            return self.coded_height, self.coded_width
        return self.coded_width, self.coded_height

    def scaled(self, short_side_px: int | None, *, multiple_of: int = 1) -> tuple[int, int]:
        """`(width, height)`, upright and with square pixels, whose short side is at most `short_side_px`; never larger
        than the stream. Sides are rounded to a multiple (at least one)."""
        width, height = self._square_size()
        scale = 1.0 if short_side_px is None else min(1.0, short_side_px / min(width, height))

        def rounded(side: float) -> int:
            return max(multiple_of, round(side * scale / multiple_of) * multiple_of)

        return rounded(width), rounded(height)

    def _square_size(self) -> tuple[float, float]:
        """`(width, height)` with square pixels: the shorter side is stretched: no pixel is lost."""
        width, height = float(self.coded_width), float(self.coded_height)
        aspect = float(self.sample_aspect_ratio)
        if aspect > 1:
            width *= aspect
        elif aspect > 0:
            height /= aspect
        return (height, width) if self.rotation % 180 else (width, height)


def geometry(frame: DecodedFrame) -> Geometry:
    """How a frame is stored and shown: coded size, pixel aspect ratio (width over height), mirroring, rotation."""
    ratio = frame.sample_aspect_ratio
    if not 1 / MAX_ASPECT_CORRECTION <= ratio <= MAX_ASPECT_CORRECTION:
        ratio = Fraction(1)
    mirrored, quarter_turns = _orientation(frame.image)
    return Geometry(
        coded_width=frame.image.width,
        coded_height=frame.image.height,
        rotation=quarter_turns * 90,
        mirrored=mirrored,
        sample_aspect_ratio=ratio,
    )


def still_geometry(rgb: np.ndarray) -> Geometry:
    """Of `(H, W, 3)` pixels that are upright and square."""
    height, width = rgb.shape[:2]
    return Geometry(
        coded_width=width, coded_height=height, rotation=0, mirrored=False, sample_aspect_ratio=Fraction(1)
    )


def _orientation(image: "av.VideoFrame") -> tuple[bool, int]:
    """Whether to exchange left and right first, and the counter-clockwise quarter turns after that.

    The display matrix (ISO/IEC 14496-12, 8.3.2) takes a point (x, y), y downwards, to (a x + c y, b x + d y).
    """
    try:
        side_data = cast("SideData | None", image.side_data.get("DISPLAYMATRIX"))
    except ValueError:  # PyAV knows no name for something else that the frame carries
        return False, round(image.rotation / 90) % 4
    if side_data is None:
        return False, 0
    a, b, _, c, d = np.frombuffer(bytes(side_data), np.int32)[:5].tolist()
    mirrored = a * d - b * c < 0
    clockwise = math.atan2(b, a) if not mirrored else math.atan2(-b, -a)
    return mirrored, round(-clockwise / (math.pi / 2)) % 4


class RgbConverter:
    """Decoded frames → `(height, width, 3)` uint8 RGB, upright, all of the same size.

    The matrix is that of the stream's tag; without a tag BT.709 from 720 lines on and BT.601 below, as players do.
    More than 8 bits are rounded to 8; HDR by PQ is tone-mapped from its full depth (`curate.media.tone`). Transparent
    frames are blended over black, like still images. Interlaced frames stay as they are;
    `curate.media.deinterlace` comes before.
    """

    def __init__(self, geometry: Geometry, size: tuple[int, int], *, in_two_steps: bool = False) -> None:
        """`size` is `(width, height)`, upright.

        `in_two_steps`: the planes of 8-bit YUV are scaled first, and made RGB at the small size. That takes four
        fifths of the time; levels of RGB differ by about half a level in the mean, without bias.
        """
        from av.video.reformatter import Interpolation, VideoReformatter

        self._mirrored = geometry.mirrored
        self._quarter_turns = geometry.rotation // 90
        self._width, self._height = size if not geometry.rotation % 180 else size[::-1]
        is_smaller = self._width * self._height < geometry.coded_width * geometry.coded_height
        # Area averaging does not alias; for enlarging it would be nearest neighbor.
        self._interpolation = Interpolation.AREA if is_smaller else Interpolation.BICUBIC
        self._in_two_steps = in_two_steps and is_smaller
        # With accurate rounding: the faster conversion adds most of a level.
        self._small_interpolation = Interpolation.BICUBIC | Interpolation.ACCURATE_RND
        self._reformatter, self._small_reformatter = VideoReformatter(), VideoReformatter()

    def __call__(self, frame: "av.VideoFrame") -> np.ndarray:
        is_pq = frame.color_trc == PQ_TRANSFER
        has_alpha = any(component.is_alpha for component in frame.format.components)
        colorspace = untagged_colorspace(frame)
        reformatter, interpolation = self._reformatter, self._interpolation
        if self._in_two_steps and frame.format.name in SCALED_AS_YUV and not is_pq:
            frame = self._reformatted(reformatter, frame, "yuv422p", interpolation)
            reformatter, interpolation = self._small_reformatter, self._small_interpolation
        target = "rgb48le" if is_pq else "rgba" if has_alpha else "rgb24"
        rgb = self._reformatted(reformatter, frame, target, interpolation, colorspace).to_ndarray()
        if is_pq:
            rgb = tone_mapped(rgb)
        elif has_alpha:
            rgb = _over_black(rgb)
        upright = np.rot90(rgb[:, ::-1] if self._mirrored else rgb, self._quarter_turns)
        return np.ascontiguousarray(upright)

    def _reformatted(
        self,
        reformatter: "VideoReformatter",
        frame: "av.VideoFrame",
        target: str,
        interpolation: int,
        colorspace: int | None = None,
    ) -> "av.VideoFrame":
        return reformatter.reformat(
            frame,
            width=self._width,
            height=self._height,
            format=target,
            src_colorspace=colorspace,
            interpolation=interpolation,
            threads=1,
        )


def _over_black(rgba: np.ndarray) -> np.ndarray:
    """`(H, W, 4)` uint8 → `(H, W, 3)` uint8."""
    product = rgba[..., :3].astype(np.uint16) * rgba[..., 3:] + 127
    return (product // 255).astype(np.uint8)


def untagged_colorspace(frame: "av.VideoFrame") -> int | None:
    """The matrix to assume for a frame that names none; None where it names one."""
    from av.video.reformatter import Colorspace

    if frame.colorspace != UNSPECIFIED_COLORSPACE:
        return None
    return int(Colorspace.ITU709 if min(frame.width, frame.height) >= 720 else Colorspace.ITU601)
