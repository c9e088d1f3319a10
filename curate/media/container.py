"""Checks of a file's bytes before a decoder opens it: does it exist, is it a still image, is it cut off.

Decoders do not report a cut-off file: they play what there is and stop. The boxes of MP4, Matroska, RIFF (AVI, WebP)
declare their size, so a missing end is found by arithmetic.
"""

import os
from pathlib import Path
from typing import BinaryIO

from curate.media.boxes import ebml_size, mp4_boxes
from curate.media.errors import media_errors
from curate.schema import FailureKind, MediaError

EBML_MAGIC = b"\x1a\x45\xdf\xa3"
SEGMENT_ID = b"\x18\x53\x80\x67"
MP4_FIRST_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"pnot"})
HEAD_BYTES = 64
STILL_MAGICS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\x00", b"MM\x00*", b"\xff\x0a", b"\0\0\0\x0cJXL ")
AVIF_BRANDS = frozenset({b"avif", b"avis"})
HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"})
STILL_BRANDS = AVIF_BRANDS | HEIC_BRANDS
STILL_MAJORS = STILL_BRANDS | {b"mif1", b"msf1", b"mif2"}
MP4_NEEDED_BOXES = frozenset({b"moov", b"mdat", b"moof", b"meta"})
"""A file that ends inside any other box has lost nothing that is shown."""


def check_file(path: str) -> int:
    """Size of a readable, non-empty regular file, in bytes.

    Raises:
        MediaError: MISSING, PERMISSION, NOT_MEDIA (a folder or device) or EMPTY_FILE.
    """
    with media_errors(path, doing="open", invalid=FailureKind.IO):
        if not Path(path).is_file():
            os.stat(path)  # raises for what is missing or forbidden
            raise MediaError(FailureKind.NOT_MEDIA, f"{path} is not a regular file")
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
    if size == 0:
        raise MediaError(FailureKind.EMPTY_FILE, f"{path} has no bytes")
    return size


def read_head(path: str) -> bytes:
    """The first bytes of a file, as many as `is_still_image` looks at.

    Raises:
        MediaError: MISSING, PERMISSION or IO.
    """
    with media_errors(path, doing="open", invalid=FailureKind.IO), open(path, "rb") as file:
        return file.read(HEAD_BYTES)


def is_still(source: str | bytes) -> bool:
    """Whether a local file, or a file's bytes, is a still image.

    Raises:
        MediaError: As `read_head`.
    """
    return is_still_image(source[:HEAD_BYTES] if isinstance(source, bytes) else read_head(source))


def is_still_image(head: bytes) -> bool:
    """Whether a file with these first bytes is a JPEG, PNG, WebP, BMP, TIFF, AVIF, HEIC or JPEG XL."""
    if head[:4] == b"RIFF":
        return head[8:12] == b"WEBP"
    if head[4:8] == b"ftyp":
        return not STILL_BRANDS.isdisjoint(brands(head))
    return head.startswith(STILL_MAGICS)


def brands(head: bytes) -> list[bytes]:
    """The brands of an ISO base media file that begins so: the major one, then those that it is compatible with.

    A video can name image brands among the latter, so they count only where the major brand is one of
    images, or the general "mif1" or "msf1".
    """
    end = min(len(head), int.from_bytes(head[:4], "big"))
    major = head[8:12]
    return [major, *(head[at : at + 4] for at in range(16, end - 3, 4))] if major in STILL_MAJORS else [major]


def missing_bytes(path: str) -> str | None:
    """Why the file ends before its structure does, or None if it does not, or declares no size."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
        if head[4:8] in MP4_FIRST_BOXES:
            return _mp4_shortfall(file, size, needs_index=not is_still_image(head))
        if head[:4] == EBML_MAGIC:
            return _matroska_shortfall(file, size)
        if head[:4] == b"RIFF":
            declared = 8 + int.from_bytes(head[4:8], "little")
            # Recorders that stream leave 0 or the maximum there.
            if 8 < declared < 2**32 - 1 and declared > size:
                return f"RIFF declares {declared} bytes, the file has {size}"
    return None


def _mp4_shortfall(file: BinaryIO, size: int, *, needs_index: bool) -> str | None:
    names = set()
    for box in mp4_boxes(file, 0, size):
        names.add(box.name)
        if box.end is not None and box.end > size and box.name in MP4_NEEDED_BOXES:
            return f"box {box.name.decode()} ends at byte {box.end}, the file has {size}"
    if needs_index and b"moov" not in names:
        return "the file ends without its index (moov)"
    return None


def _matroska_shortfall(file: BinaryIO, size: int) -> str | None:
    offset = 4
    file.seek(offset)
    length, width = ebml_size(file.read(8))
    offset += width + (length or 0)
    file.seek(offset)
    if length is None or file.read(4) != SEGMENT_ID:
        return None
    length, width = ebml_size(file.read(8))
    end = offset + 4 + width + (length or 0)
    return f"the segment ends at byte {end}, the file has {size}" if length is not None and end > size else None
