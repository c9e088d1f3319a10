"""A tar without some of its samples: the bytes of the others are copied as they are."""

import tarfile
from collections.abc import Collection

from curate.shards.pieces import copy_bytes
from curate.shards.tar import BLOCK_BYTES, END, list_members
from curate.storage.place import locate
from curate.storage.publish import publish


def clip_of(name: str, clip_ids: Collection[str]) -> str | None:
    """Which of these clips a member is of, as it is, or as a later window of it; None: of none."""
    key = name.rpartition("/")[2].split(".")[0]
    return next((one for one in (key, key.rpartition("-")[0]) if one in clip_ids), None)


def members_of(url: str, clip_ids: Collection[str]) -> list[str]:
    """Names of the members of a tar that are of these clips; reads headers.

    Raises:
        ValueError: the tar cannot be read.
    """
    fs, path = locate(url)
    try:
        with fs.open(path, "rb") as file:
            return [name for name, _, _ in list_members(file) if clip_of(name, clip_ids)]
    except tarfile.TarError as error:
        raise ValueError(
            f"{url}: no readable tar ({error}), so what is in it is not known; put back what was there, or remove it"
        ) from error


def copy_without(url: str, target: str, clip_ids: Collection[str]) -> dict[str, int]:
    """Publish the samples of a tar that are of no clip of these as another tar, in their order.

    Returns:
        Name of a member → offset of its payload in `target`; empty where no sample is left, and then there is no tar.
    """
    fs, path = locate(url)
    offsets: dict[str, int] = {}
    with fs.open(path, "rb") as file:
        kept = [member for member in list_members(file) if not clip_of(member[0], clip_ids)]
        if not kept:
            return {}
        with publish(target) as tar:
            for name, offset, size in kept:
                file.seek(offset - BLOCK_BYTES)
                offsets[name] = tar.tell() + BLOCK_BYTES
                copy_bytes(file, tar, BLOCK_BYTES + size + -size % BLOCK_BYTES)
            tar.write(END)
    return offsets
