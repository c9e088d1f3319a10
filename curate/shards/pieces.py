"""A shard in pieces: runs of its samples, written by many workers and put together by one.

A piece holds the members as they stand in the shard, and behind them what is known of the clips. So a shard is the
beginnings of its pieces, one after the other, and an unfinished shard loses nothing that is in a piece.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import IO

from curate.shards.tar import END, Member
from curate.storage.place import locate
from curate.storage.publish import publish

LENGTH_BYTES = 8
"""At the end of a piece: the length of what is known of its clips, big-endian."""
COPY_BYTES = 4 * 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class CutClip:
    """A clip in its shard: the location of its media member, and what was written. Without sound, the codec is "".
    `start_pts` and `end_pts` are what it shows of its source, in the time base of its span."""

    clip_id: str
    member: Member
    num_frames: int
    width: int
    height: int
    codec: str
    pixel_format: str
    color_transfer: str
    fps: float
    duration_s: float
    start_pts: int
    end_pts: int
    audio_codec: str = ""
    audio_channels: int = 0
    audio_rate: int = 0
    audio_s: float = 0.0


def end_piece(file: IO[bytes], clips: Iterable[CutClip]) -> None:
    """Append what is known of the clips to their members."""
    known = json.dumps([asdict(clip) for clip in clips]).encode()
    file.write(known + len(known).to_bytes(LENGTH_BYTES, "big"))


def read_piece(url: str) -> tuple[CutClip, ...] | None:
    """The clips of a piece, with their offsets in it; None where there is none."""
    fs, path = locate(url)
    try:
        with fs.open(path, "rb") as file:
            return _known(file)[0]
    except FileNotFoundError:
        return None


def join_pieces(url: str, pieces: Sequence[str]) -> tuple[CutClip, ...]:
    """Publish the tar of the pieces, which must be there; nothing where they have no clip. Returns its clips."""
    clips: list[CutClip] = []
    if not any(read_piece(piece) for piece in pieces):
        return ()
    with publish(url) as shard:
        for piece in pieces:
            fs, path = locate(piece)
            with fs.open(path, "rb") as file:
                known, num_bytes = _known(file)
                begin = shard.tell()
                file.seek(0)
                copy_bytes(file, shard, num_bytes)
            clips += (_moved(clip, url.rpartition("/")[2], begin) for clip in known)
        shard.write(END)
    return tuple(clips)


def _known(file: IO[bytes]) -> tuple[tuple[CutClip, ...], int]:
    """The clips of a piece, and the bytes of their members."""
    end = file.seek(-LENGTH_BYTES, 2)
    length = int.from_bytes(file.read(LENGTH_BYTES), "big")
    file.seek(end - length)
    rows = json.loads(file.read(length))
    return tuple(CutClip(**{**row, "member": Member(**row["member"])}) for row in rows), end - length


def copy_bytes(file: IO[bytes], target: IO[bytes], num_bytes: int) -> None:
    """Copy so many bytes from where a file stands.

    Raises:
        EOFError: it has fewer.
    """
    while num_bytes:
        chunk = file.read(min(COPY_BYTES, num_bytes))
        if not chunk:
            raise EOFError(f"a file ends {num_bytes} bytes too early")
        target.write(chunk)
        num_bytes -= len(chunk)


def _moved(clip: CutClip, shard: str, begin: int) -> CutClip:
    return replace(clip, member=replace(clip.member, shard=shard, offset=clip.member.offset + begin))
