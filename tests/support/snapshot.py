"""What a dataset holds, apart from how it came about: for the comparison of two runs that should be equal."""

import hashlib
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from curate.dataset.dataset import Dataset
from curate.dataset.layout import Encoded
from curate.dataset.store import Table

HISTORY = frozenset({"attempts", "retry_command", "at", "command"})
"""Columns that tell how often something was tried, where and when; a kill may change them."""
VERSIONS, DECISIONS = "tables/versions", "tables/decisions"
"""A version that a killed command has begun is none, and its number is not used again."""

MAX_SHOWN = 5

Snapshot = Mapping[str, Mapping[str, str]]
"""Table or file → key of a row → the row."""


def snapshot(folder: Path) -> Snapshot:
    """Every table, `clips.parquet`, the indices, and all members of the shards, of latents and of text embeddings."""
    dataset = Dataset(str(folder))
    tables = {table.url: table for table in vars(dataset).values() if isinstance(table, Table)}
    found: dict[str, dict[str, str]] = {}
    for parts in sorted({path.parent for path in (folder / "tables").rglob("part-*.parquet")}):
        is_captions = parts.parent.name == "captions"
        table = tables.get(str(parts)) or (dataset.captions(parts.name) if is_captions else _scores(parts))
        name = str(parts.relative_to(folder))
        if name == VERSIONS:  # what counts is the newest, which has the digest of clips.parquet
            newest = max(table.rows(), key=lambda row: int(row["number"]))
            found[name] = _by_key([{**newest, "number": "newest"}], table.key)
        elif name != DECISIONS:
            found[name] = _by_key(table.rows(), table.key)
    for name in ("tables/sidecar.parquet", "clips.parquet", "shards/index.parquet"):
        if (folder / name).exists():
            content = pq.read_table(folder / name)
            key = ["uri"] if "sidecar" in name else ["clip_id"]
            found[name] = _by_key(content.to_pylist(), key) | {"the file": _sha256((folder / name).read_bytes())}
    encoded = [path for kind in get_args(Encoded) for path in folder.glob(f"{kind}/*")]
    for index in sorted(path / "index.parquet" for path in encoded if (path / "index.parquet").exists()):
        found[str(index.relative_to(folder))] = _by_key(pq.read_table(index).to_pylist(), ["clip_id"])
    for tar in sorted(tar for path in (folder / "shards", *encoded) for tar in path.glob("*.tar")):
        found[str(tar.relative_to(folder))] = _members(tar) | {"the file": _sha256(tar.read_bytes())}
    return found


def digest(content: Snapshot) -> str:
    """Sixteen hex digits that name all of it."""
    return _sha256(json.dumps(content, sort_keys=True).encode())[:16]


def differences(expected: Snapshot, got: Snapshot) -> list[str]:
    """One line per table or file that differs, with the first rows that do; none where all is equal."""
    lines = []
    for name in sorted({*expected, *got}):
        if name not in got or name not in expected:
            lines.append(f"{name}: {'missing' if name not in got else 'should not be there'}")
            continue
        lines += [f"{name}: {line}" for line in _row_differences(expected[name], got[name])]
    return lines


def leftovers(folder: Path) -> int:
    """Unfinished files that a kill left under temporary names."""
    return sum(1 for path in folder.rglob(".*.tmp") if path.is_file())


def _row_differences(expected: Mapping[str, str], got: Mapping[str, str]) -> Iterable[str]:
    kinds = {
        "missing": sorted(expected.keys() - got.keys()),
        "should not be there": sorted(got.keys() - expected.keys()),
        "differs": sorted(key for key in expected.keys() & got.keys() if expected[key] != got[key]),
    }
    for kind, keys in kinds.items():
        if keys:
            more = f" and {len(keys) - MAX_SHOWN} more" if len(keys) > MAX_SHOWN else ""
            yield f"{kind}: {', '.join(keys[:MAX_SHOWN])}{more}"
        if keys and kind == "differs":
            yield f"  expected {expected[keys[0]]}"
            yield f"  got      {got[keys[0]]}"


def _scores(parts: Path) -> Table:
    """A table that the dataset makes on demand: of one score family, by clip."""
    schema = pq.read_schema(min(parts.glob("part-*.parquet")))
    return Table(str(parts), pa.schema(list(schema)), ["clip_id"])


def _by_key(rows: Iterable[Mapping[str, Any]], key: Iterable[str]) -> dict[str, str]:
    columns = list(key)
    return {
        json.dumps([row[name] for name in columns]): json.dumps(
            {name: value for name, value in row.items() if name not in HISTORY}, sort_keys=True, default=repr
        )
        for row in rows
    }


def _members(tar: Path) -> dict[str, str]:
    with tarfile.open(tar) as archive:
        return {
            member.name: _sha256(file.read())
            for member in archive
            if (file := archive.extractfile(member)) is not None
        }


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
