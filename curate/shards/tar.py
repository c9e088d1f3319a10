"""Tar shards: written once, read by offset.

A shard is an ordinary WebDataset tar: the members of one sample follow each other and share the name before the first
dot. An index row keeps the offset of a member's payload, so one sample is one range read, local or remote.
"""

import hashlib
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import IO, Any

from fsspec.implementations.local import LocalFileSystem

from curate.schema import ID_HEX_DIGITS
from curate.storage.place import locate
from curate.storage.publish import publish

BLOCK_BYTES = 512
END = b"\0" * (2 * BLOCK_BYTES)
"""Of a tar."""
PLACE = ("shard", "offset", "size", "digest")
"""Columns of an index that give a member's location and digest."""
NOT_ITS_INDEX = "shard and index do not belong together: put back the one that was replaced, or write both again"


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One file in a shard: `size` bytes of payload from byte `offset` of `shard` (a name relative to its folder), and
    their `payload_digest`."""

    key: str
    ext: str
    shard: str
    offset: int
    size: int
    digest: str


def payload_digest(payload: bytes) -> str:
    """First 128 bits of SHA-256 over a member's bytes, in hexadecimal."""
    return hashlib.sha256(payload).hexdigest()[:ID_HEX_DIGITS]


def write_tar(url: str, samples: Iterable[tuple[str, dict[str, bytes]]]) -> list[Member]:
    """Write one shard and publish it by a rename; equal samples give equal bytes.

    Args:
        url: location of the shard (a local path or an fsspec URL).
        samples: `(key, {extension: payload})`, in the order of writing. A key holds no dot.

    Returns:
        The members in the order of writing.

    Raises:
        ValueError: a key with a dot, or a key twice: WebDataset would join or split samples.
    """
    shard = url.rpartition("/")[2]
    members: list[Member] = []
    seen: set[str] = set()
    with publish(url) as file:
        for key, parts in samples:
            if key in seen:
                raise ValueError(f"shard {url}: got sample key {key!r} twice; expected unique keys")
            seen.add(key)
            members += write_sample(file, shard, key, parts)
        file.write(END)
    return members


def write_sample(file: IO[bytes], shard: str, key: str, parts: Mapping[str, bytes]) -> list[Member]:
    """Append the members of one sample to the tar `shard`.

    Raises:
        ValueError: a key with a dot: WebDataset would split the sample.
    """
    if "." in key:
        raise ValueError(f"shard {shard}: got sample key {key!r}; expected a key without a dot")
    members = []
    for ext, payload in parts.items():
        offset = file.tell() + _write_member(file, f"{key}.{ext}", payload)
        digest = payload_digest(payload)
        members.append(Member(key=key, ext=ext, shard=shard, offset=offset, size=len(payload), digest=digest))
    return members


def _write_member(file: IO[bytes], name: str, payload: bytes) -> int:
    """Write header and padded payload; returns the header's length. Times and owners are zero: bytes must repeat."""
    info = tarfile.TarInfo(name)
    info.size = len(payload)
    header = info.tobuf(tarfile.USTAR_FORMAT)
    file.write(header)
    file.write(payload)
    file.write(b"\0" * (-len(payload) % BLOCK_BYTES))
    return len(header)


class TarReader:
    """Random access to members of the shards in one folder: each read is one request of a range, from any thread."""

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/")
        self._fs, self._path = locate(self.root)

    def read(self, shard: str, offset: int, size: int, *, key: str, digest: str | None) -> bytes:
        """Return the `size` bytes from `offset` of `shard`, which are those of the sample `key`.

        Args:
            shard: a name relative to the folder.
            offset: first byte of the member's payload.
            size: its bytes.
            key: of its sample, as its header has it.
            digest: `payload_digest` of what was written, or its beginning; None where the index is of an earlier
                reelpack, without any.

        Raises:
            FileNotFoundError: the shard is not there.
            ValueError: the shard ends before the member does, or holds other bytes than were written.
        """
        if offset < BLOCK_BYTES:
            raise ValueError(f"{self.root}/{shard}: offset {offset} is that of no member; {NOT_ITS_INDEX}")
        found = self._range(f"{self._path}/{shard}", offset - BLOCK_BYTES, offset + size)
        header, payload = found[:BLOCK_BYTES], found[BLOCK_BYTES:]
        if len(payload) != size:
            raise ValueError(
                f"{self.root}/{shard}: expected {size} bytes at offset {offset}, got {len(payload)}; "
                "the shard is truncated: remove it and run the step that wrote it again"
            )
        if (name := member_key(header)) != key:
            raise ValueError(
                f"{self.root}/{shard}: expected a member of {key} at offset {offset}, got {name or 'none'}; "
                f"{NOT_ITS_INDEX}"
            )
        if digest is not None and not payload_digest(payload).startswith(digest or "?"):
            raise ValueError(
                f"{self.root}/{shard}: the bytes of {key} at offset {offset} are not those that were written; "
                f"{NOT_ITS_INDEX}"
            )
        return payload

    def read_part(self, row: Mapping[str, Any], first: int, last: int) -> bytes:
        """The bytes from `first` up to, without, `last` of the member that a row of an index points at. Where they are
        the first ones, its header is compared.

        Raises:
            ValueError: the header is of another member.
            OSError: of the filesystem.
        """
        path, before = f"{self._path}/{row['shard']}", BLOCK_BYTES if first == 0 else 0
        found = self._range(path, row["offset"] + first - before, row["offset"] + last)
        if before and member_key(found[:before]) != sample_key(row):
            raise ValueError(
                f"{self.root}/{row['shard']}: expected {sample_key(row)} at {row['offset']}; {NOT_ITS_INDEX}"
            )
        return found[before:]

    def _range(self, path: str, start: int, end: int) -> bytes:
        if isinstance(self._fs, LocalFileSystem):  # ten times as fast as through fsspec
            with open(path, "rb") as file:
                file.seek(start)
                return file.read(end - start)
        payload: bytes = self._fs.cat_file(path, start=start, end=end)
        return payload


def sample_key(row: Mapping[str, Any]) -> str:
    """Of the sample that a row of an index points at: the clip's id, with the number of a later window of it."""
    return f"{row['clip_id']}-{window}" if (window := row.get("window")) else str(row["clip_id"])


def read_member(reader: TarReader, row: Mapping[str, Any]) -> bytes:
    """The member that a row of an index points at; see `TarReader.read`."""
    return reader.read(row["shard"], row["offset"], row["size"], key=sample_key(row), digest=row.get("digest"))


def member_key(header: bytes) -> str | None:
    """The key in a member's header block, (512,) bytes; None where they are no header."""
    if header[257:262] != b"ustar":
        return None
    return header[:100].split(b"\0")[0].decode(errors="replace").rpartition("/")[2].split(".")[0]


def list_members(file: IO[bytes]) -> list[tuple[str, int, int]]:
    """`(name, offset, size)` of every file of a tar, read with the standard library: the check on `write_tar`. Reads
    headers and seeks over what they announce.

    Raises:
        tarfile.TarError: no tar, or one that ends too early.
    """
    with tarfile.open(fileobj=file, mode="r:") as tar:
        return [(info.name, info.offset_data, info.size) for info in tar]
