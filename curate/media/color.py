"""The pixels of a still image, of any mode and color space → 8-bit sRGB."""

import io
from typing import TYPE_CHECKING

import numpy as np

from curate.schema import FailureKind, MediaError

if TYPE_CHECKING:
    from PIL import Image

BITS_PER_SAMPLE = 258
PHOTOMETRIC = 262
"""TIFF's tags."""
WHITE_IS_ZERO = 0

PROFILE_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}
"""Color space of an ICC profile → Pillow's mode of the pixels that it describes."""


def to_srgb(image: "Image.Image", name: str) -> "Image.Image":
    """An image of mode RGB, transparency over black. A profile that is broken, or that describes other pixels, is
    passed over, as browsers do.

    Args:
        image: Not yet loaded, perhaps.
        name: For messages.

    Raises:
        MediaError: UNKNOWN_CODEC for floats outside 0 to 1 and for 32-bit integers: their white level is unknown.
    """
    from PIL import Image

    alpha = None
    if image.mode.startswith("I;16") and "transparency" in image.info:
        # Pillow's conversion would clip.
        seen = np.asarray(image) != image.info["transparency"]
        alpha, opaque = Image.fromarray(seen.astype(np.uint8) * 255), _eight_bits(image, name)
    elif image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        alpha, opaque = rgba.getchannel("A"), rgba.convert("RGB")
        if image.mode in ("LA", "La"):
            opaque = opaque.convert("L")
    else:
        opaque = _eight_bits(image, name)
    rgb = _by_profile(opaque, image.info.get("icc_profile")) or opaque.convert("RGB")
    if alpha is None:
        return rgb
    return Image.composite(rgb, Image.new("RGB", rgb.size), alpha)


def _eight_bits(image: "Image.Image", name: str) -> "Image.Image":
    """The same image in a mode of 8 bits per sample."""

    if image.mode.startswith("I;16"):
        depth = _bits(image)
        return _black_is_zero(image, (np.asarray(image).astype(np.uint16) >> (depth - 8)).astype(np.uint8))
    if image.mode == "F":
        values = np.asarray(image)
        low, high = float(values.min()), float(values.max())
        if low >= 0 and high <= 1:
            return _black_is_zero(image, np.rint(values * 255).astype(np.uint8))
        found = f"floating-point pixels from {low:g} to {high:g}, expected 0 to 1"
        raise MediaError(FailureKind.UNKNOWN_CODEC, f"{name} has {found}; convert it to 8 or 16 bits")
    if image.mode == "I":
        found = "32-bit integer pixels with an unknown white level"
        raise MediaError(FailureKind.UNKNOWN_CODEC, f"{name} has {found}; convert it to 8 or 16 bits")
    return image.convert("RGB") if image.mode not in PROFILE_MODES.values() else image


def _black_is_zero(image: "Image.Image", gray: np.ndarray) -> "Image.Image":
    """Gray as it is seen. Pillow inverts a TIFF whose white is zero, but not one of more than 8 bits."""
    from PIL import Image

    inverted = getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == WHITE_IS_ZERO
    return Image.fromarray(255 - gray if inverted else gray)


def _bits(image: "Image.Image") -> int:
    """Of a sample that is stored in 16: TIFF has 12 as well."""
    declared = getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, (16,))
    bits = declared[0] if isinstance(declared, tuple) else declared
    return bits if bits in range(9, 17) else 16


def _by_profile(image: "Image.Image", profile: bytes | None) -> "Image.Image | None":
    """The image in sRGB, where its profile can be used; LAB has one by its definition."""
    from PIL import ImageCms

    try:
        if profile:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        elif image.mode == "LAB":
            source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        else:
            return None
        mode = PROFILE_MODES.get(source.profile.xcolor_space.strip())
        if mode == "RGB" and image.mode == "L":
            image = image.convert("RGB")
        if mode != image.mode or (source.profile.profile_description or "").startswith("sRGB"):
            return None
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
        target = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, source, target, intent, "RGB", flags=flags)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
