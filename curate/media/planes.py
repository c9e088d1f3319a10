"""Decoded pixels that can be encoded as they are: planes of 4:2:0 in 8 bits, with what their numbers mean.

A way through RGB costs time, and an error of rounding in every pixel.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from curate.media.geometry import Geometry, untagged_colorspace
from curate.media.tone import PQ_TRANSFER

if TYPE_CHECKING:
    import av

LIMITED_RANGE, FULL_RANGE = 1, 2  # AVColorRange; 0 is unspecified
KEPT_MATRICES = frozenset({1, 5, 6})
"""BT.709, and the two names of BT.601 (ITU-T H.273): what every reader knows."""
DEEP_MATRICES = frozenset({9})
"""BT.2020, with non-constant luminance."""
FULL_RANGE_FORMAT = "yuvj420p"
"""FFmpeg's name for yuv420p of full range, for codecs that tell."""
FORMATS, DEEP_FORMATS = frozenset({"yuv420p", FULL_RANGE_FORMAT}), frozenset({"yuv420p10le"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Coding:
    """What the numbers of a picture mean: the pixel format, and FFmpeg's numbers (which are those of ITU-T H.273) of
    its matrix, primaries, transfer function and range."""

    pixel_format: str
    matrix: int
    primaries: int
    transfer: int
    range: int


BT709 = Coding(pixel_format="yuv420p", matrix=1, primaries=1, transfer=1, range=LIMITED_RANGE)
"""What pixels become that were RGB."""


def kept_coding(
    frame: "av.VideoFrame", shape: Geometry, size: tuple[int, int], *, deep: bool = False
) -> Coding | None:
    """The coding of a frame that can be shown at `size`, `(width, height)`, as it is; None for one that is to be
    rotated, scaled, tone-mapped, or converted to 4:2:0 in 8 bits. A matrix that is not tagged gets its name here.

    With `deep`, 10 bits and HDR (PQ, BT.2020) are kept as well.
    """
    name, matrix = frame.format.name, untagged_colorspace(frame) or int(frame.colorspace)
    is_upright = not shape.rotation and not shape.mirrored and shape.sample_aspect_ratio == 1
    if (
        not is_upright
        or (frame.width, frame.height) != size
        or name not in (*FORMATS, *(DEEP_FORMATS if deep else ()))
    ):
        return None
    if matrix not in (KEPT_MATRICES | (DEEP_MATRICES if deep else set())) or (
        frame.color_trc == PQ_TRANSFER and not deep
    ):
        return None
    is_full = name == FULL_RANGE_FORMAT or frame.color_range == FULL_RANGE
    return Coding(
        pixel_format=name,
        matrix=matrix,
        primaries=int(frame.color_primaries),
        transfer=int(frame.color_trc),
        range=FULL_RANGE if is_full else LIMITED_RANGE,
    )
