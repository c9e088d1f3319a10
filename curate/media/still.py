"""Still images (JPEG, PNG, WebP, BMP, TIFF): one-frame clips, read by Pillow."""

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from curate.media.counter import count_picture
from curate.media.errors import media_errors
from curate.schema import FailureKind, MediaError, Span, Video

if TYPE_CHECKING:
    from PIL import Image

UPRIGHT = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
"""EXIF's orientation (tag 274) → Pillow's name for what undoes it. Pillow's own `exif_transpose` also writes the EXIF
anew, and fails over images whose other tags are malformed."""
DAMAGE = (SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, struct.error)
"""What Pillow raises over malformed data, beside errors of its own: its EXIF reader trusts types and counts."""

STILL_TIME_BASE = Fraction(1)
STILL_SPAN = Span(start_pts=0, end_pts=1, time_base=STILL_TIME_BASE)
"""An image lasts one tick of one second: its span is a name for "the whole of it", not a duration."""


def probe_still(path: str, uri: str, video_id: str, size_bytes: int) -> Video:
    """What the header of an image says.

    Raises:
        MediaError: NOT_MEDIA or CORRUPT; UNKNOWN_CODEC for an animation, which Pillow would show in part.
    """
    with _opened(path, path) as image:
        if image.format == "WEBP" and getattr(image, "is_animated", False):
            raise MediaError(FailureKind.UNKNOWN_CODEC, f"{path} is an animated WebP; convert it to a video")
        width, height = image.size
        rotation = _exif_quarter_turns(image) * 90
        if rotation % 180:
            width, height = height, width
        return Video(
            video_id=video_id,
            uri=uri,
            size_bytes=size_bytes,
            kind="image",
            container=(image.format or "").lower(),
            codec=(image.format or "").lower(),
            width=width,
            height=height,
            fps=Fraction(1),
            time_base=STILL_TIME_BASE,
            rotation=rotation,
            pixel_format=image.mode.lower(),
            num_frames=1,
            duration_s=None,
        )


def read_still(source: str | bytes) -> np.ndarray:
    """The image as it is to be seen, `(H, W, 3)` uint8 sRGB: EXIF orientation applied, transparency over black.

    Raises:
        MediaError: TRUNCATED or CORRUPT.
    """
    from PIL import Image

    name = source if isinstance(source, str) else "the image"
    with _opened(source, name) as image:
        count_picture()
        turn = UPRIGHT.get(_orientation(image))
        return np.asarray(_flattened(image if turn is None else image.transpose(Image.Transpose[turn])))


def encode_png(rgb: np.ndarray) -> bytes:
    """`(H, W, 3)` uint8 as PNG: lossless, the same bytes for the same pixels."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "PNG")
    return buffer.getvalue()


@contextmanager
def _opened(source: str | bytes, name: str) -> "Iterator[Image.Image]":
    from PIL import Image

    try:
        with (
            media_errors(name, doing="decode", invalid=FailureKind.CORRUPT),
            Image.open(source if isinstance(source, str) else io.BytesIO(source)) as image,
        ):
            yield image
    except MediaError as error:
        # Pillow tells a cut-off file from a broken one by its words only.
        if error.kind is FailureKind.CORRUPT and "truncated" in error.detail.lower():
            raise MediaError(FailureKind.TRUNCATED, error.detail) from error
        raise
    except (Image.DecompressionBombError, *DAMAGE) as error:
        raise MediaError(FailureKind.CORRUPT, f"cannot decode {name}: {error}") from error


def _exif_quarter_turns(image: "Image.Image") -> int:
    """Counter-clockwise quarter turns that set the image upright."""
    return {3: 2, 4: 2, 5: 3, 6: 3, 7: 1, 8: 1}.get(_orientation(image), 0)


def _orientation(image: "Image.Image") -> int:
    found = image.getexif().get(274, 1)
    return found if isinstance(found, int) else 1  # malformed files have anything


def _flattened(image: "Image.Image") -> "Image.Image":
    """RGB of any mode; 16-bit gray keeps its upper byte, which Pillow's own conversion would clip."""
    if image.mode.startswith("I;16"):
        return image.point(lambda value: value / 256).convert("L").convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        from PIL import Image

        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba).convert("RGB")
    return image.convert("RGB")
