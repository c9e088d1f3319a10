"""Photos: color profiles, depths, and files that hold more than a picture."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from curate.media.decode import decode_clip
from curate.media.probe import probe
from curate.media.still import UPRIGHT, read_still
from curate.schema import FailureKind, MediaError

FIELDS = np.repeat(np.repeat(np.array([[(100, 200, 100), (200, 90, 60), (60, 90, 200)]], np.uint8), 32, 0), 32, 1)
"""`(32, 96, 3)`: three fields."""


def profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile of version 2 (ICC.1:2001-04) for a display, with a name that says nothing."""
    tags = {b"desc": b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78), **tags}
    tags[b"wtpt"] = xyz(0.9642, 1, 0.8249)
    directory, data, offset = b"", b"", 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        value += bytes(-len(value) % 4)
        directory += name + struct.pack(">II", offset + len(data), len(value))
        data += value
    header = struct.pack(">I4x", offset + len(data)) + b"\2\x20\0\0mntr" + space + b"XYZ " + bytes(12) + b"acsp"
    header += bytes(28) + struct.pack(">iii", *(round(v * 65536) for v in (0.9642, 1, 0.8249)))
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + directory + data


def xyz(*values: float) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">iii", *(round(value * 65536) for value in values))


def gamma(value: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(value * 256)) + bytes(2)


ADOBE_RGB = profile(
    b"RGB ",
    {
        b"rXYZ": xyz(0.60974, 0.31111, 0.01947),
        b"gXYZ": xyz(0.20528, 0.62567, 0.06087),
        b"bXYZ": xyz(0.14919, 0.06322, 0.74457),
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), gamma(563 / 256)),
    },
)
LINEAR_GRAY = profile(b"GRAY", {b"kTRC": gamma(1)})


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "tiff"])
def test_a_profile_is_converted_to_srgb(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"a.{extension}"
    lossless = {} if extension in ("png", "tiff") else {"quality": 98}
    Image.fromarray(FIELDS).save(path, icc_profile=ADOBE_RGB, **lossless)
    rgb = read_still(str(path))
    assert np.abs(rgb[16, 16].astype(int) - (0, 201, 94)).max() <= 4, "Adobe RGB's green is out of sRGB's reach"
    assert np.array_equal(decode_clip(path.read_bytes()).rgb[0], rgb)


def test_transparency_stays_with_a_profile(tmp_path: Path) -> None:
    alpha = np.full((32, 96, 1), 128, np.uint8)
    alpha[:, 32:] = 0
    Image.fromarray(np.dstack([FIELDS, alpha])).save(tmp_path / "a.png", icc_profile=ADOBE_RGB)
    rgb = read_still(str(tmp_path / "a.png")).astype(int)
    assert np.abs(rgb[16, 16] - (0, 101, 47)).max() <= 2
    assert not rgb[:, 32:].any()


def test_gray_has_profiles_too(tmp_path: Path) -> None:
    Image.fromarray(np.full((16, 16), 55, np.uint8)).save(tmp_path / "a.png", icc_profile=LINEAR_GRAY)
    rgb = read_still(str(tmp_path / "a.png"))
    assert np.abs(rgb.astype(int) - 128).max() <= 2, "a linear 0.216 is half of sRGB's range"


@pytest.mark.parametrize("data", [b"no profile", ADOBE_RGB[:200], LINEAR_GRAY])
def test_a_profile_that_fits_no_pixels_is_passed_over(tmp_path: Path, data: bytes) -> None:
    Image.fromarray(FIELDS).save(tmp_path / "a.png", icc_profile=data)
    assert np.array_equal(read_still(str(tmp_path / "a.png")), FIELDS)


def test_cmyk_is_converted_without_a_profile(tmp_path: Path) -> None:
    Image.fromarray(FIELDS).convert("CMYK").save(tmp_path / "a.jpg", quality=98)
    assert np.abs(read_still(str(tmp_path / "a.jpg")).astype(int) - FIELDS).max() < 8


def test_an_avif_photo_is_an_image(tmp_path: Path) -> None:
    path = tmp_path / "a.avif"
    Image.fromarray(FIELDS).save(path, quality=95)
    video = probe(str(path), "", "")
    assert (video.kind, video.container, video.width, video.height) == ("image", "avif", 96, 32)
    assert np.abs(read_still(str(path)).astype(int) - FIELDS).mean() < 6
    (tmp_path / "cut.avif").write_bytes(path.read_bytes()[:-50])
    assert kind(tmp_path / "cut.avif") is FailureKind.TRUNCATED
    (tmp_path / "damaged.avif").write_bytes(path.read_bytes().replace(b"iinf", b"none"))
    assert kind(tmp_path / "damaged.avif") is FailureKind.CORRUPT


def kind(path: Path) -> FailureKind:
    with pytest.raises(MediaError) as error:
        probe(str(path), "", "")
        read_still(str(path))
    return error.value.kind


@pytest.mark.parametrize(
    "head", [b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", b"\xff\x0a" + bytes(20)]
)
def test_photos_without_a_reader_say_what_to_do(tmp_path: Path, head: bytes) -> None:
    (tmp_path / "a.heic").write_bytes(head + struct.pack(">I4s", 108, b"mdat") + bytes(100))
    with pytest.raises(MediaError, match="not supported: convert it to JPEG") as error:
        probe(str(tmp_path / "a.heic"), "", "")
    assert error.value.kind is FailureKind.UNKNOWN_CODEC


@pytest.mark.parametrize("extension", ["webp", "png", "avif", "tiff"])
def test_several_pictures_are_no_still(tmp_path: Path, extension: str) -> None:
    first, *rest = [Image.fromarray(np.roll(FIELDS, shift, 1)) for shift in (0, 8, 16)]
    first.save(tmp_path / f"a.{extension}", save_all=True, append_images=rest)
    with pytest.raises(MediaError, match="holds 3 images") as error:
        probe(str(tmp_path / f"a.{extension}"), "", "")
    assert error.value.kind is FailureKind.UNKNOWN_CODEC


def test_a_tiff_with_a_thumbnail_is_a_still(tmp_path: Path) -> None:
    image, buffer = Image.fromarray(FIELDS), io.BytesIO()
    from PIL.TiffImagePlugin import AppendingTiffWriter

    with AppendingTiffWriter(buffer, True) as writer:
        image.save(writer, "TIFF")
        writer.newFrame()
        image.resize((24, 8)).save(writer, "TIFF", tiffinfo={254: 1})
    (tmp_path / "a.tiff").write_bytes(buffer.getvalue())
    assert probe(str(tmp_path / "a.tiff"), "", "").width == 96
    assert np.array_equal(read_still(str(tmp_path / "a.tiff")), FIELDS)


@pytest.mark.parametrize("extension", ["png", "tiff"])
def test_sixteen_bits_keep_their_upper_byte(tmp_path: Path, extension: str) -> None:
    ramp = np.linspace(0, 65535, 256, dtype=np.uint16)[None].repeat(8, 0)
    Image.fromarray(ramp).save(tmp_path / f"a.{extension}")
    assert np.array_equal(read_still(str(tmp_path / f"a.{extension}"))[0, :, 0], ramp[0] >> 8)


@pytest.mark.parametrize("depth", [16, np.float32])
def test_white_may_be_zero(tmp_path: Path, depth: object) -> None:
    shade = np.array([[0, 13107, 65535]], np.uint16).repeat(4, 0)
    values = shade if depth == 16 else (shade / 65535).astype(np.float32)
    Image.fromarray(values).save(tmp_path / "a.tiff", tiffinfo={262: 0})
    assert read_still(str(tmp_path / "a.tiff"))[0, :, 0].tolist() == [255, 204, 0]


@pytest.mark.parametrize("extension", ["tiff", "jpg", "png", "webp", "avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_of_every_format_are_turned_once(tmp_path: Path, extension: str, orientation: int) -> None:
    corners = np.full((48, 96, 3), 128, np.uint8)
    corners[:24, :48], corners[:24, 48:] = (200, 0, 0), (0, 200, 0)
    stored = Image.fromarray(corners)
    if orientation > 1:
        stored = stored.transpose(Image.Transpose[UPRIGHT[{6: 8, 8: 6}.get(orientation, orientation)]])
    exif, path = Image.Exif(), tmp_path / f"a.{extension}"
    exif[274] = orientation
    stored.save(path, **({"tiffinfo": {274: orientation}} if extension == "tiff" else {"exif": exif}))
    found = probe(str(path), "", "")
    assert (found.width, found.height) == (96, 48)
    seen = read_still(str(path)).astype(int)
    assert np.abs(seen[8::32, 16::64] - corners[8::32, 16::64]).max() < 8


def test_sixteen_bits_with_a_transparent_value(tmp_path: Path) -> None:
    values = np.full((8, 16), 30000, np.uint16)
    values[:, 8:] = 5
    Image.fromarray(values).save(tmp_path / "a.png", transparency=5)
    gray = read_still(str(tmp_path / "a.png"))[..., 0]
    assert (gray[:, :8] == 30000 >> 8).all() and not gray[:, 8:].any()


def test_floats_are_scaled_or_refused(tmp_path: Path) -> None:
    ramp = np.linspace(0, 1, 256, dtype=np.float32)[None].repeat(8, 0)
    Image.fromarray(ramp).save(tmp_path / "a.tiff")
    assert np.array_equal(read_still(str(tmp_path / "a.tiff"))[0, :, 1], np.arange(256))
    Image.fromarray(ramp * 300).save(tmp_path / "b.tiff")
    assert kind(tmp_path / "b.tiff") is FailureKind.UNKNOWN_CODEC


def test_integers_of_32_bits_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.arange(64, dtype=np.int32).reshape(8, 8)).save(tmp_path / "a.tiff")
    assert kind(tmp_path / "a.tiff") is FailureKind.UNKNOWN_CODEC


def test_only_the_named_readers_of_pillow_run() -> None:
    buffer = io.BytesIO()
    Image.fromarray(FIELDS).save(buffer, "PPM")
    with pytest.raises(MediaError) as error:
        read_still(buffer.getvalue())
    assert error.value.kind is FailureKind.CORRUPT
