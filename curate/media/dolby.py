"""Dolby Vision: the configuration record of a file (Dolby Vision Streams Within the ISO Base Media File
Format, 2.3; Matroska has the same record, MPEG-TS a descriptor with its fields).

Most profiles have a base layer that is a complete video, HDR10 or HLG. Profile 5, and others without a compatible
base layer, have colors (IPT) that look purple and green to a decoder that does not know them.
"""

import os
from collections.abc import Iterator
from typing import BinaryIO

from curate.media.boxes import Box, ebml_elements, find, mp4_boxes
from curate.media.container import EBML_MAGIC, MP4_FIRST_BOXES, SEGMENT_ID
from curate.media.transport import stream_descriptors

RECORDS = frozenset({b"dvcC", b"dvvC", b"dvwC"})
RECORD_BYTES = 24
STREAM_DESCRIPTIONS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
SAMPLE_ENTRY_BYTES, ENTRY_HEADER_BYTES = 78, 8
"""Of a visual sample entry before the boxes in it, and of `stsd` before its entries."""

DESCRIPTOR = 0xB0

TRACKS, TRACK, MAPPING = b"\x16\x54\xae\x6b", b"\xae", b"\x41\xe4"
MAPPING_TYPE, MAPPING_DATA = b"\x41\xe7", b"\x41\xed"


def dolby_vision(path: str) -> tuple[int, bool] | None:
    """The profile, and whether its base layer is a complete video; None for a file without a record.

    Args:
        path: A local file of any kind; records are looked for in MP4, Matroska and MPEG-TS.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        head = file.read(12)
        if head[4:8] in MP4_FIRST_BOXES:
            records = _mp4_records(file, size)
        elif head[:4] == EBML_MAGIC:
            records = _matroska_records(file, size)
        else:
            records = _transport_records(file)
        for record in records:
            if len(record) >= 5:
                return record[2] >> 1, record[4] >> 4 != 0
    return None


def _mp4_records(file: BinaryIO, size: int) -> Iterator[bytes]:
    whole = Box(name=b"", offset=0, start=0, end=size)
    for table in find(file, whole, size, STREAM_DESCRIPTIONS, is_mp4=True):
        end = min(size, table.end or size)
        for entry in mp4_boxes(file, table.start + ENTRY_HEADER_BYTES, end):
            for box in mp4_boxes(file, entry.start + SAMPLE_ENTRY_BYTES, min(end, entry.end or end)):
                if box.name in RECORDS:
                    file.seek(box.start)
                    yield file.read(RECORD_BYTES)


def _matroska_records(file: BinaryIO, size: int) -> Iterator[bytes]:
    whole = Box(name=b"", offset=0, start=0, end=size)
    for mapping in find(file, whole, size, (SEGMENT_ID, TRACKS, TRACK, MAPPING), is_mp4=False):
        fields = {}
        for field in ebml_elements(file, mapping.start, min(size, mapping.end or size)):
            file.seek(field.start)
            fields[field.name] = file.read(min(RECORD_BYTES, (field.end or size) - field.start))
        if fields.get(MAPPING_TYPE) in RECORDS:
            yield fields.get(MAPPING_DATA, b"")


def _transport_records(file: BinaryIO) -> Iterator[bytes]:
    for tag, payload in stream_descriptors(file):
        if tag == DESCRIPTOR and len(payload) >= 5:
            # Without a base layer of its own, the stream that it depends on comes before the last field.
            has_base = payload[3] & 1
            yield payload[:4] + (payload[4:5] if has_base else payload[6:7])
