"""What nothing in a dataset refers to, shown, and removed when told. The driver behind `reelpack vacuum DATASET`.

Kills leave such files: half-written ones, tars whose rows were not published, parts that were merged into another.
Clips that are cut or encoded again leave tars that no row names any more.
"""

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

from fsspec.implementations.local import LocalFileSystem

from curate.dataset.dataset import Dataset, Writer
from curate.dataset.layout import ENCODED, is_shard
from curate.storage.lease import hold
from curate.storage.place import locate
from curate.storage.publish import is_being_written

Files = dict[str, dict[str, Any]]
"""Path in the dataset → the filesystem's information on the file."""
UNFINISHED = re.compile(r"\..+\.[0-9a-f]{16,32}\.tmp")
TIMES = ("mtime", "LastModified", "last_modified", "updated")
"""What the filesystems of fsspec call the time of the last change."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Orphan:
    """A file that nothing refers to.

    Attributes:
        path: In the dataset.
        num_bytes: Its size.
        why: What it is.
        age_s: Seconds since it was written; None where the filesystem does not tell.
        is_old: It may be removed: no writer and no reader can still be about to refer to it.
    """

    path: str
    num_bytes: int
    why: str
    age_s: float | None
    is_old: bool


def orphans(url: str, older_than_s: float = 3600) -> list[Orphan]:
    """Files of a dataset that nothing refers to, by path; looks and changes nothing.

    Args:
        url: the dataset directory.
        older_than_s: seconds after which a whole file counts as old. One that a writer left half-way is old when that
            writer is gone, where the system tells.

    Raises:
        ValueError: nothing was curated into `url`.
    """
    dataset = Dataset(url)
    dataset.made_with(or_running=True)
    # Files before rows: what is published in between has its rows.
    files = _files(dataset)
    found: dict[str, str] = {}
    for find in (_unfinished, _shards, _pieces, _encoded, _merged):
        found |= dict(find(dataset, files))
    return [_orphan(dataset, path, files[path], why, older_than_s) for path, why in sorted(found.items())]


def vacuum(url: str, older_than_s: float = 3600) -> list[Orphan]:
    """Remove the orphans that are old; returns them.

    Raises:
        ValueError: nothing was curated into `url`, or another command writes there.
        OSError: a file cannot be removed.
    """
    dataset = Dataset(url)
    dataset.made_with(or_running=True)
    with ExitStack() as held:
        for name in (*get_args(Writer), "commit"):
            held.enter_context(hold(url, name))
        removed = [orphan for orphan in orphans(url, older_than_s) if orphan.is_old]
        for orphan in removed:
            fs, path = locate(f"{dataset.url}/{orphan.path}")
            with suppress(FileNotFoundError):
                fs.rm_file(path)
    return removed


def _files(dataset: Dataset) -> Files:
    fs, root = locate(dataset.url)
    fs.invalidate_cache()
    return {path.removeprefix(root).lstrip("/"): info for path, info in fs.find(root, detail=True).items()}


def _orphan(dataset: Dataset, path: str, info: dict[str, Any], why: str, older_than_s: float) -> Orphan:
    at = next((info[name] for name in TIMES if info.get(name) is not None), None)
    age_s = None if at is None else time.time() - (at.timestamp() if isinstance(at, datetime) else float(at))
    is_old = age_s is not None and age_s >= older_than_s
    fs, local = locate(f"{dataset.url}/{path}")
    if UNFINISHED.fullmatch(Path(path).name) and isinstance(fs, LocalFileSystem):
        is_old = not is_being_written(Path(local))
    return Orphan(path=path, num_bytes=int(info["size"] or 0), why=why, age_s=age_s, is_old=is_old)


def _unfinished(dataset: Dataset, files: Files) -> Iterator[tuple[str, str]]:
    for path in files:
        if UNFINISHED.fullmatch(path.rpartition("/")[2]):
            yield path, "half-written, its writer was killed"


def _shards(dataset: Dataset, files: Files) -> Iterator[tuple[str, str]]:
    named = {name for part in dataset.shards.parts(["shard"]) for name in part["shard"].to_pylist()}
    for path in files:
        if _is_shard_of(dataset.layout.shards, dataset, path) and path.rpartition("/")[2] not in named:
            yield path, "no row of tables/shards names it"


def _pieces(dataset: Dataset, files: Files) -> Iterator[tuple[str, str]]:
    folder = dataset.layout.pieces.removeprefix(f"{dataset.url}/")
    for path in files:
        if path.startswith(f"{folder}/"):
            yield path, "clips of a shard that is not written; the next `curate` uses it"


def _is_shard_of(folder: str, dataset: Dataset, path: str) -> bool:
    """Whether a file of the dataset is a shard in this folder, given with the URL of the dataset."""
    parent, _, name = f"{dataset.url}/{path}".rpartition("/")
    return parent == folder and is_shard(name)


def _encoded(dataset: Dataset, files: Files) -> Iterator[tuple[str, str]]:
    """Tars that neither the parts nor the index of their folder name."""
    for kind in ENCODED:
        for fingerprint in dataset.fingerprints(kind):
            rows, index = dataset.encoded(kind, fingerprint).read(["shard"]), dataset.encoded_index(kind, fingerprint)
            named = {name for table in (rows, index) if table is not None for name in table["shard"].to_pylist()}
            folder = dataset.layout.encoded(kind, fingerprint).url
            for path in files:
                if _is_shard_of(folder, dataset, path) and path.rpartition("/")[2] not in named:
                    yield path, "no row names it: its clips were encoded again, or their rows never published"


def _merged(dataset: Dataset, files: Files) -> Iterator[tuple[str, str]]:
    """Parts that a kill left after they were merged into another."""
    for table in (*dataset.tables, *(dataset.scores(family, {}) for family in dataset.score_families())):
        folder = table.url.removeprefix(f"{dataset.url}/")
        for name in table.superseded():
            yield f"{folder}/{name}", "merged into another part"
