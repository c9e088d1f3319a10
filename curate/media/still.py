"""Still images (JPEG, PNG, WebP, BMP, TIFF, AVIF): one-frame clips, read by Pillow."""

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from curate.media.color import to_srgb
from curate.media.container import AVIF_BRANDS, HEAD_BYTES, STILL_BRANDS, brands, read_head
from curate.media.counter import STILL_S, count_decoded, count_frame
from curate.media.errors import media_errors
from curate.media.limits import CEILING_PIXELS, check_size
from curate.schema import FailureKind, MediaError, Span, Video

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF", "AVIF")
"""Pillow's readers that may run: some others start programs or read further files."""

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
again, and fails for images whose other tags are malformed."""
DAMAGE = (
    SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RuntimeError, EOFError,
    struct.error,
)  # fmt: skip
"""What Pillow raises for malformed data besides its own errors: its EXIF reader trusts types and counts."""

WIDTH, HEIGHT = 256, 257
"""TIFF's tags."""
SUBFILE_TYPE = 254
"""TIFF's tag that says that a page is a smaller version of another (bit 0)."""

STILL_TIME_BASE = Fraction(1)
STILL_SPAN = Span(start_pts=0, end_pts=1, time_base=STILL_TIME_BASE)
"""An image lasts one tick of one second: its span is a name for "the whole of it", not a duration."""


def probe_still(path: str, uri: str, video_id: str, size_bytes: int, *, max_pixels: int = CEILING_PIXELS) -> Video:
    """The facts of an image's header.

    Raises:
        MediaError: NOT_MEDIA, TRUNCATED or CORRUPT; TOO_LARGE; UNKNOWN_CODEC for what has no reader here, and for an
            animation or several pages, which would show only one image.
    """
    with _opened(path, path, max_pixels) as image:
        _check_is_one_image(image, path)
        width, height = _stored_size(image)
        orientation = _orientation(image)
        rotation = _quarter_turns(orientation) * 90
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
            mirrored=orientation in (2, 4, 5, 7),
            pixel_format=image.mode.lower(),
            num_frames=1,
            duration_s=None,
        )


def read_still(source: str | bytes, *, max_pixels: int = CEILING_PIXELS) -> np.ndarray:
    """The image as it is to be seen, `(H, W, 3)` uint8 sRGB: color profile and EXIF orientation applied, transparency
    over black.

    Raises:
        MediaError: TRUNCATED, CORRUPT or TOO_LARGE; UNKNOWN_CODEC for pixels that no range is known of.
    """
    from PIL import Image

    name = source if isinstance(source, str) else "the image"
    with _opened(source, name, max_pixels) as image:
        count_decoded()
        count_frame(STILL_S)
        image.load()  # which sets a TIFF upright, and takes its orientation away
        turn = UPRIGHT.get(_orientation(image))
        rgb = to_srgb(image, name)
        return np.asarray(rgb if turn is None else rgb.transpose(Image.Transpose[turn]))


def encode_png(rgb: np.ndarray) -> bytes:
    """`(H, W, 3)` uint8 as PNG: lossless, the same bytes for the same pixels."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "PNG")
    return buffer.getvalue()


@contextmanager
def _opened(source: str | bytes, name: str, max_pixels: int) -> "Iterator[Image.Image]":
    from PIL import Image

    _check_has_reader(source, name)
    # Pillow's own limit is a module's variable and stops at 179 million pixels; the size is checked before decoding.
    Image.MAX_IMAGE_PIXELS = None
    try:
        with (
            media_errors(name, doing="decode", invalid=FailureKind.CORRUPT),
            Image.open(source if isinstance(source, str) else io.BytesIO(source), formats=FORMATS) as image,
        ):
            check_size(name, *image.size, max_pixels)
            yield image
    except MediaError as error:
        # Pillow tells a cut-off file from a broken one by its words only.
        if error.kind is FailureKind.CORRUPT and "truncated" in error.detail.lower():
            raise MediaError(FailureKind.TRUNCATED, error.detail) from error
        raise
    except (Image.DecompressionBombError, *DAMAGE) as error:
        raise MediaError(FailureKind.CORRUPT, f"cannot decode {name}: {error}") from error


def _check_has_reader(source: str | bytes, name: str) -> None:
    """Formats that are recognised by their first bytes, though Pillow, or this build of it, does not read them."""
    from PIL import features

    head = read_head(source) if isinstance(source, str) else source[:HEAD_BYTES]
    if head.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")):
        found = "a JPEG XL image"
    elif head[4:8] != b"ftyp" or STILL_BRANDS.isdisjoint(found_brands := brands(head)):
        return
    elif AVIF_BRANDS.isdisjoint(found_brands):
        found = "a HEIC image"
    elif features.check("avif"):
        return
    else:
        found = "an AVIF image, which this build of Pillow does not read"
    raise MediaError(
        FailureKind.UNKNOWN_CODEC, f"{name} is {found}; that is not supported: convert it to JPEG, PNG or WebP"
    )


def _check_is_one_image(image: "Image.Image", name: str) -> None:
    count = getattr(image, "n_frames", 1)
    if count == 1 or image.format == "MPO":  # of a camera's MPO the first image is the photo
        return
    if image.format == "TIFF" and _num_pages(image, count) == 1:
        return
    raise MediaError(
        FailureKind.UNKNOWN_CODEC,
        f"{name} holds {count} images ({image.format}); convert an animation to a video, pages to a file each",
    )


def _num_pages(image: "Image.Image", count: int) -> int:
    """Pages of a TIFF that are no smaller version of another."""
    num_pages = 0
    for page in range(count):
        image.seek(page)
        num_pages += not int(image.tag_v2.get(SUBFILE_TYPE, 0)) & 1  # type: ignore[attr-defined]
    image.seek(0)
    return num_pages


def _stored_size(image: "Image.Image") -> tuple[int, int]:
    """The size of the stored pixels. For a TIFF, Pillow returns the upright size before it turns the pixels."""
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        return tags[WIDTH], tags[HEIGHT]
    return image.size


def _quarter_turns(orientation: int) -> int:
    """Counter-clockwise quarter turns that set the image upright, once left and right are exchanged if need be."""
    return {3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(orientation, 0)


def _orientation(image: "Image.Image") -> int:
    found = image.getexif().get(274, 1)
    return found if isinstance(found, int) else 1  # malformed files have anything
