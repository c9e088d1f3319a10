"""What a file's structure says: Dolby Vision, and files that were joined."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from curate.media.clock import counted_time_base
from curate.media.frames import iter_frames
from curate.media.probe import probe
from curate.schema import FailureKind, MediaError


def record(profile: int, compatibility: int) -> bytes:
    """A Dolby Vision configuration record, with a base layer and metadata."""
    return struct.pack(">BBHB", 1, 0, profile << 9 | 6 << 3 | 0b101, compatibility << 4) + bytes(19)


def mp4_with(path: str, extra: bytes) -> None:
    """A box at the end of the film's sample entry; the boxes around it grow. The index lies at the file's end."""
    data = bytearray(Path(path).read_bytes())
    entry = data.index(b"avc1", data.index(b"stsd")) - 4
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd"):
        grow(data, data.index(name) - 4, len(extra))
    end = entry + int.from_bytes(data[entry : entry + 4], "big")
    grow(data, entry, len(extra))
    data[end:end] = extra
    Path(path).write_bytes(data)


def grow(data: bytearray, place: int, count: int) -> None:
    data[place : place + 4] = (int.from_bytes(data[place : place + 4], "big") + count).to_bytes(4, "big")


def matroska_with(path: str, extra: bytes) -> None:
    """An element in place of the padding (Void) before the tracks, as a file of tracks of its own."""
    data = bytearray(Path(path).read_bytes())
    place = data.index(b"\xec")
    room = 9 + (int.from_bytes(data[place + 1 : place + 9], "big") & (2**56 - 1)) if data[place + 1] == 1 else None
    room = room or 2 + (data[place + 1] & 0x7F)
    tracks = element(b"\x16\x54\xae\x6b", element(b"\xae", extra))
    rest = room - len(tracks)
    assert rest >= 2, "the padding is too short"
    data[place : place + room] = tracks + element(b"\xec", bytes(rest - 9), width=8)
    Path(path).write_bytes(data)


def element(name: bytes, payload: bytes, width: int = 2) -> bytes:
    return name + (len(payload) | 1 << 7 * width).to_bytes(width, "big") + payload


@pytest.mark.parametrize(("profile", "compatibility", "refused"), [(5, 0, True), (8, 1, False), (8, 4, False)])
@pytest.mark.parametrize("box", [b"dvcC", b"dvvC"])
def test_dolby_vision_is_recorded_or_refused(
    numbered, write_video: Callable[..., str], box: bytes, profile: int, compatibility: int, refused: bool
) -> None:
    path = write_video("a.mp4", numbered.draw(3))
    assert probe(path, "", "").dolby_vision is None
    mp4_with(path, struct.pack(">I4s", 32, box) + record(profile, compatibility))
    if not refused:
        assert probe(path, "", "").dolby_vision == profile
        return
    with pytest.raises(MediaError, match=r"profile 5.*convert it") as error:
        probe(path, "", "")
    assert error.value.kind is FailureKind.UNKNOWN_CODEC


def test_dolby_vision_of_matroska_is_refused(numbered, write_video: Callable[..., str]) -> None:
    path = write_video("a.mkv", numbered.draw(3))
    fields = element(b"\x41\xe7", b"dvcC") + element(b"\x41\xed", record(5, 0))
    matroska_with(path, element(b"\x41\xe4", fields))
    with pytest.raises(MediaError, match="profile 5"):
        probe(path, "", "")


def transport_with(path: str, descriptor: bytes) -> None:
    """A descriptor of the first stream in every program map; the padding behind it shrinks."""
    data = bytearray(Path(path).read_bytes())
    for start in range(0, len(data), 188):
        packet = data[start : start + 188]
        pid, at = (packet[1] & 0x1F) << 8 | packet[2], 5
        if pid != 0x1000 or not packet[1] & 0x40:  # where FFmpeg puts its first map
            continue
        length = (packet[at + 1] & 0x0F) << 8 | packet[at + 2]
        section = packet[at : at + 3 + length - 4]
        stream = 12 + ((section[10] & 0x0F) << 8 | section[11])
        section[stream + 4] += len(descriptor)
        section[stream + 5 : stream + 5] = descriptor
        section[2] += len(descriptor)
        section += checksum(section).to_bytes(4, "big")
        data[start : start + 188] = (packet[:at] + section).ljust(188, b"\xff")
    Path(path).write_bytes(data)


def checksum(data: bytes) -> int:
    """CRC-32/MPEG-2."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value >> 31 else 0)) & 0xFFFFFFFF
    return value


@pytest.mark.parametrize(("profile", "compatibility"), [(5, 0), (8, 1)])
def test_dolby_vision_of_transport_streams(
    numbered, write_video: Callable[..., str], profile: int, compatibility: int
) -> None:
    path = write_video("a.ts", numbered.draw(3), container="mpegts")
    assert probe(path, "", "").dolby_vision is None
    transport_with(path, bytes([0xB0, 5]) + record(profile, compatibility)[:5])
    if compatibility:
        assert probe(path, "", "").dolby_vision == profile
        return
    with pytest.raises(MediaError, match="profile 5"):
        probe(path, "", "")


def test_a_second_film_behind_the_first_is_noted(numbered, write_video: Callable[..., str]) -> None:
    path = write_video("a.mp4", numbered.draw(5))
    size = Path(path).stat().st_size
    assert probe(path, "", "").notes == ()
    Path(path).write_bytes(Path(path).read_bytes() * 2)
    [note] = probe(path, "", "").notes
    assert f"byte {size}" in note and "not read" in note
    assert len(list(iter_frames(path, short_side_px=32))) == 5


@pytest.mark.parametrize("name", ["a.mkv", "a.avi"])
def test_of_other_files_that_were_joined_all_is_read(numbered, write_video: Callable[..., str], name: str) -> None:
    path = write_video(name, numbered.draw(5), codec="mpeg4" if name == "a.avi" else "libx264")
    Path(path).write_bytes(Path(path).read_bytes() * 2)
    video = probe(path, "", "")
    assert video.notes == ()
    clock = counted_time_base(video.fps)
    assert len(list(iter_frames(path, short_side_px=32, time_base=clock))) == 10
