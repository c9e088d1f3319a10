"""The files of a tar and where their bytes are: headers are read, payloads are not."""

import tarfile
from collections.abc import Iterator
from typing import IO, NamedTuple

from curate.schema import FailureKind, MediaError

BLOCK_BYTES = 512
PADDING_BYTES = 2**20
"""After the end of a tar that are searched for another one."""
COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")
"""First bytes of gzip, bzip2, xz and Zstandard."""


class TarMember(NamedTuple):
    """A file in a tar: `size` bytes from byte `offset`. The name is a name, and no path of this machine."""

    name: str
    offset: int
    size: int


def tar_members(file: IO[bytes], num_bytes: int, name: str) -> Iterator[TarMember]:
    """The regular files of a tar, in its order. `file` may be read between two of them.

    Args:
        file: The open tar.
        num_bytes: Its size.
        name: For messages.

    Raises:
        MediaError: NOT_MEDIA, no tar. After the members before the damage: TRUNCATED, it ends too early; CORRUPT, a
            header is damaged, or another tar follows.
    """
    last = offset = -1
    try:
        head = file.read(BLOCK_BYTES)
        if head.startswith(COMPRESSED):
            detail = f"{name} is a compressed tar, whose members have no place of their own; decompress it"
            raise MediaError(FailureKind.NOT_MEDIA, detail)
        file.seek(0)
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (info := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # it keeps every header
                if info.size < 0 or info.offset_data <= last:  # Python's reader would not end
                    raise MediaError(FailureKind.CORRUPT, f"{name}: the header of {info.name!r} gives a negative size")
                last = info.offset_data
                if info.offset_data + info.size > num_bytes:
                    detail = f"{name} ends at byte {num_bytes}, inside {info.name!r}, which ends at byte "
                    raise MediaError(FailureKind.TRUNCATED, f"{detail}{info.offset_data + info.size}")
                if info.isreg() and not info.issparse():
                    yield TarMember(info.name, info.offset_data, info.size)
            offset = tar.offset
    except (tarfile.TarError, UnicodeDecodeError) as error:
        kind = FailureKind.NOT_MEDIA if last < 0 else FailureKind.CORRUPT
        raise MediaError(kind, f"{name} is no tar that can be read ({error})") from error
    _check_end(file, offset, name)


def _check_end(file: IO[bytes], offset: int, name: str) -> None:
    """Python's reader takes a damaged header for the end of the tar, and stops at the end of the first of two."""
    file.seek(offset)
    block = file.read(BLOCK_BYTES)
    if block.strip(b"\0"):
        raise MediaError(FailureKind.CORRUPT, f"{name}: no header at byte {offset}; the members after it are lost")
    rest = file.read(PADDING_BYTES)
    if rest.strip(b"\0"):
        after = offset + BLOCK_BYTES + len(rest) - len(rest.lstrip(b"\0"))
        detail = f"{name}: data follows its end, at byte {after}, and is not read; join tars by tar -A"
        raise MediaError(FailureKind.CORRUPT, detail)
