"""The files of a checkpoint: written with a checksum each, read where all agree, and nothing in them is run.

torch.distributed.checkpoint keeps its list of tensors, and what is no tensor, as pickles, which may call anything when
they are read. A run's folder may come from anywhere: here they may name only what such a list consists of.
"""

import hashlib
import io
import json
import os
import pickle
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, EnumType
from io import BufferedReader
from pathlib import Path
from typing import Any, cast

import torch
from torch.distributed.checkpoint import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint._fsspec_filesystem import FileSystem as RemoteFileSystem
from torch.distributed.checkpoint._nested_dict import set_element
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import ReadItem, SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from curate.storage.place import AnyPath
from curate.storage.publish import write_text
from train.run.commit import CHECKSUMS, UNPUBLISHED

METADATA = ".metadata"
"""The list of tensors, as torch.distributed.checkpoint names it."""

_LISTED = {
    "torch.distributed.checkpoint.metadata": {
        "BytesStorageMetadata",
        "ChunkStorageMetadata",
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch.serialization": {"_get_layout"},
    "torch": {"Size"},
    "collections": {"OrderedDict"},
    "pathlib": {"PosixPath"},
    "pathlib._local": {"PosixPath"},
}
"""What a list of tensors consists of, by module; and types of numbers."""


@dataclass(frozen=True)
class _Hashed(WriteResult):
    """What a rank tells the first one of a tensor, and with it of the file that stores it."""

    sha256: str


class HashingWriter(FileSystemWriter):
    """Writes a checkpoint's files and its table of checksums. Each rank reads what it has written once more.

    Args:
        folder: that the files go into, of this machine or of another filesystem.
    """

    def __init__(self, folder: AnyPath) -> None:
        super().__init__(str(folder), sync_files=isinstance(folder, Path))
        self.folder = folder
        if not isinstance(folder, Path):
            self.fs = RemoteFileSystem()
            self.path = self.fs.init_path(str(folder))

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        results = super().write_data(plan, planner).wait()
        digests = {name: file_digest(self.folder / name) for name in {r.storage_data.relative_path for r in results}}
        done: Future[list[WriteResult]] = Future()
        done.set_result(
            [_Hashed(r.index, r.size_in_bytes, r.storage_data, digests[r.storage_data.relative_path]) for r in results]
        )
        return done

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """On the first rank alone, when all have written."""
        super().finish(metadata, results)
        told = {r.storage_data.relative_path: r.sha256 for of_rank in results for r in of_rank}
        names = sorted(path.name for path in self.folder.iterdir())
        write_checksums(self.folder, {name: told.get(name) or file_digest(self.folder / name) for name in names})


class SafeReader(FileSystemReader):
    """Reads a checkpoint's files, and runs nothing that its list of tensors says.

    Args:
        folder: that the files lie in, of this machine or of another filesystem.
    """

    def __init__(self, folder: AnyPath) -> None:
        super().__init__(str(folder))
        self.folder = folder
        if not isinstance(folder, Path):
            self.fs = RemoteFileSystem()
            self.path = self.fs.init_path(str(folder))

    def read_metadata(self, *_: Any, **__: Any) -> Metadata:
        """
        Raises:
            UnpicklingError: the list is none, names something else than tensors and files, or a file elsewhere.
        """
        with (self.folder / METADATA).open("rb") as file:
            metadata = _Unpickler(file).load()
        if not isinstance(metadata, Metadata):
            raise pickle.UnpicklingError(f"{METADATA} holds a {type(metadata).__name__} and no list of tensors")
        for info in (metadata.storage_data or {}).values():
            if Path(info.relative_path).name != info.relative_path:
                raise pickle.UnpicklingError(f"{METADATA} names a file elsewhere: {info.relative_path}")
        metadata.storage_meta = metadata.storage_meta or StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata


class SafePlanner(DefaultLoadPlanner):
    """Reads what is no tensor (settings of an optimizer) as plain values."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        name = read_item.dest_index.fqn
        try:
            found = torch.load(value, weights_only=True)
        except pickle.UnpicklingError as error:  # which advises to run it
            raise pickle.UnpicklingError(f"{name} is no plain value") from error
        if self.flatten_state_dict:
            set_element(self.original_state_dict, self.mappings[name], found)
        else:
            self.state_dict[name] = found


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name in _LISTED.get(module, ()):
            return super().find_class(module, name)
        if module == "torch" and isinstance(found := getattr(torch, name, None), torch.dtype):
            return found
        if (module, name) == ("builtins", "getattr"):
            return _member
        raise pickle.UnpicklingError(f"{METADATA} names {module}.{name}, which is no part of a list of tensors")


def _member(kind: object, name: object) -> Enum:
    """A member of an enumeration: Python 3.11.2, that of Debian 12, pickles it as `getattr(kind, name)`."""
    if not (isinstance(kind, EnumType) and isinstance(name, str) and name in kind.__members__):
        raise pickle.UnpicklingError(f"{METADATA} names {kind}.{name}, which is no part of a list of tensors")
    member: Enum = kind[name]
    return member


def write_checksums(folder: AnyPath, files: dict[str, str]) -> None:
    """Write the table, which says that a folder is whole: the SHA-256 of each file, and that of this table."""
    text = json.dumps({"files": files, "sha256": _table_digest(files)}, indent=1)
    if not isinstance(folder, Path):
        write_text(str(folder / UNPUBLISHED), text)
        return
    with (folder / CHECKSUMS).open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def damaged(folder: AnyPath, part: int = 0, parts: int = 1) -> list[str]:
    """What is wrong with a checkpoint's files, a sentence each; `part` of `parts` of them are read."""
    try:
        table = json.loads((folder / CHECKSUMS).read_text())
        files: dict[str, str] = table["files"]
        if _table_digest(files) != table["sha256"]:
            return [f"{CHECKSUMS} is not what was written"]
        names = sorted(files)
    except FileNotFoundError:
        return [f"{CHECKSUMS} is missing: the checkpoint is incomplete, or of an earlier version"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return [f"{CHECKSUMS} cannot be read ({type(error).__name__}: {error})"]
    found = [(name, _problem(folder / name, files[name])) for name in names[part::parts]]
    return [f"{name} {problem}" for name, problem in found if problem is not None]


def _problem(path: AnyPath, sha256: str) -> str | None:
    try:
        same = file_digest(path) == sha256
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None if same else "is not what was written: its checksum is another"


def newest_intact(checkpoints: Iterable[AnyPath]) -> AnyPath | None:
    """The last of these, oldest first, whose files are all as they were written."""
    return next((folder for folder in reversed([*checkpoints]) if not damaged(folder)), None)


def file_digest(path: AnyPath) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(cast("BufferedReader", file), "sha256").hexdigest()


def _table_digest(files: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
