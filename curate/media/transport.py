"""Descriptors of the streams of an MPEG transport stream (ISO/IEC 13818-1), read without a decoder."""

from collections.abc import Iterator
from typing import BinaryIO

SYNC = b"G"
PACKET_BYTES = 188
LAYOUTS = ((188, 0), (192, 4), (204, 0))
"""Bytes from packet to packet, and before a packet: plain, of discs and cameras, with error correction."""

NUM_SYNCS = 5
LOOK_BYTES = 2**20
"""Program tables are repeated several times a second."""

PROGRAMS, PROGRAM_MAP = 0, 2
"""Ids of tables."""


def stream_descriptors(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """`(tag, payload)` of what the program maps near the file's start say of their streams; nothing for other files.

    Of a map that is longer than a packet, the first packet is read.
    """
    file.seek(0)
    data = file.read(LOOK_BYTES)
    maps: set[int] = set()
    for pid, section in _sections(data):
        end = min(len(section), 3 + _twelve_bits(section, 1)) - 4  # before the checksum
        if pid == 0 and section[0] == PROGRAMS:
            for at in range(8, end - 3, 4):
                if section[at : at + 2] != b"\0\0":  # which is the network's own
                    maps.add(_twelve_bits(section, at + 2) | (section[at + 2] & 0x10) << 8)
        elif pid in maps and section[0] == PROGRAM_MAP:
            at = 12 + _twelve_bits(section, 10)
            while at + 5 <= end:
                last = min(end, at + 5 + _twelve_bits(section, at + 3))
                at += 5
                while at + 2 <= last:
                    tag, length = section[at], section[at + 1]
                    yield tag, section[at + 2 : min(last, at + 2 + length)]
                    at += 2 + length
                at = last


def _sections(data: bytes) -> Iterator[tuple[int, bytes]]:
    """`(pid, section)` of the sections that begin in a packet, cut at the packet's end."""
    for step, before in LAYOUTS:
        if all(data[before + number * step :][:1] == SYNC for number in range(NUM_SYNCS)):
            break
    else:
        return
    for start in range(before, len(data) - PACKET_BYTES + 1, step):
        packet = data[start : start + PACKET_BYTES]
        begins, has_adaptation, has_payload = packet[1] & 0x40, packet[3] & 0x20, packet[3] & 0x10
        at = 5 + packet[4] if has_adaptation else 4
        if begins and has_payload and at < PACKET_BYTES:
            section = packet[at + 1 + packet[at] :]
            if len(section) > 12:
                yield (packet[1] & 0x1F) << 8 | packet[2], section


def _twelve_bits(data: bytes, at: int) -> int:
    return (data[at] & 0x0F) << 8 | data[at + 1]
