"""The structure of files, read without a decoder: boxes of MP4 (ISO/IEC 14496-12), elements of Matroska (RFC 8794)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

MAX_BOXES = 10**6
"""Most boxes of one level that are read: days of video in one-second fragments have fewer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """A box or an element, with its payload at `[start, end)`; `end` is None where the file does not state it."""

    name: bytes
    offset: int
    start: int
    end: int | None


def mp4_boxes(file: BinaryIO, start: int, end: int) -> Iterator[Box]:
    """The boxes that follow one another from `start` on; the last one may end beyond `end`."""
    offset = start
    for _ in range(MAX_BOXES):
        if offset + 8 > end:
            return
        file.seek(offset)
        header = file.read(16)
        length, name, width = int.from_bytes(header[:4], "big"), header[4:8], 8
        if length == 1 and len(header) == 16:
            length, width = int.from_bytes(header[8:], "big"), 16
        elif length == 0:
            length = end - offset
        if length < width:
            return
        yield Box(name=name, offset=offset, start=offset + width, end=offset + length)
        offset += length


def ebml_elements(file: BinaryIO, start: int, end: int) -> Iterator[Box]:
    """The elements that follow one another from `start` on, up to one of unknown size."""
    offset = start
    for _ in range(MAX_BOXES):
        if offset >= end:
            return
        file.seek(offset)
        header = file.read(12)
        id_width = 9 - header[0].bit_length() if header and header[0] else 9
        if id_width > 4:
            return
        length, width = ebml_size(header[id_width:])
        begin = offset + id_width + width
        yield Box(name=header[:id_width], offset=offset, start=begin, end=None if length is None else begin + length)
        if length is None:
            return
        offset = begin + length


def ebml_size(data: bytes) -> tuple[int | None, int]:
    """Value and width in bytes of an EBML size; the value is None for "unknown" (a live stream)."""
    if not data or data[0] == 0:
        return None, 1
    width = 9 - data[0].bit_length()
    value = int.from_bytes(data[:width], "big") & ((1 << 7 * width) - 1)
    return (None if value == (1 << 7 * width) - 1 else value), width


def find(file: BinaryIO, within: Box, size: int, path: tuple[bytes, ...], *, is_mp4: bool) -> Iterator[Box]:
    """The parts at a path of names below a part, every one of them."""
    if not path:
        yield within
        return
    end = min(size, size if within.end is None else within.end)
    for part in (mp4_boxes if is_mp4 else ebml_elements)(file, within.start, end):
        if part.name == path[0]:
            yield from find(file, part, size, path[1:], is_mp4=is_mp4)
