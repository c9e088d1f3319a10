"""Groups of duplicates, and clusters. The search takes long where there are many clips, and no threshold of `select`
changes its result: the result is kept in DATASET/cache until something changes that it depends on.

The cache saves time and changes no result; it can be removed at any time.
"""

import hashlib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import curate.dedup
from curate.dataset.dataset import Dataset
from curate.dataset.store import Table, write_parquet
from curate.dedup.balance import find_clusters
from curate.dedup.config import DedupConfig
from curate.dedup.groups import find_groups
from curate.dedup.semantic import Embeddings
from curate.storage.place import locate

FOUND_IN = b"found_in"


def find_duplicates(
    dataset: Dataset, clips: pa.Table, vectors: tuple[Table, str] | None, config: DedupConfig, *, keep: bool
) -> tuple[dict[str, str], dict[str, int]]:
    """Clip id → duplicate group, and clip id → cluster.

    Args:
        dataset: has the cache.
        clips: `clip_id, frame_hashes`.
        vectors: the table of the clips' embeddings and its column; None where no scorer gives any.
        config: what counts as a copy, and how many clusters there are.
        keep: write the results to the cache; a command that only reads changes nothing in the dataset.
    """
    rows = clips.select(["clip_id", "frame_hashes"]).sort_by("clip_id")
    ids, hashes = rows["clip_id"].to_pylist(), [blob or b"" for blob in rows["frame_hashes"].to_pylist()]
    by_meaning = config.semantic.min_similarity is not None
    # Listed before they are read: a part that comes in between is missing here, and no later run finds this entry.
    stored = [vectors[0].url.rpartition("/")[2], vectors[1], *vectors[0].part_names()] if vectors else []

    @cache
    def embeddings() -> Embeddings | None:
        return Embeddings.of(vectors[0].parts([vectors[1]]), vectors[1], ids) if vectors else None

    groups: dict[str, str] = _recalled(
        dataset.layout.cache("groups"),
        _digest(
            config.model_dump_json(exclude={"balance"}),
            *(",".join(ids), ",".join(str(len(blob)) for blob in hashes), b"".join(hashes)),
            "\n".join(stored if by_meaning else []),
        ),
        lambda: find_groups(clips, embeddings() if by_meaning else None, config),
        pa.string(),
        keep,
    )
    clusters: dict[str, int] = _recalled(
        dataset.layout.cache("clusters"),
        _digest(str(config.balance.num_clusters), ",".join(ids), "\n".join(stored)),
        lambda: {} if (known := embeddings()) is None else find_clusters(known, config.balance),
        pa.int64(),
        keep,
    )
    return groups, clusters


def _recalled(
    url: str, digest: str, find: Callable[[], Mapping[str, Any]], kind: pa.DataType, keep: bool
) -> dict[str, Any]:
    """What `find` gives, from the file at `url` if that was found in what `digest` names."""
    fs, path = locate(url)
    try:
        table = pq.read_table(path, filesystem=fs)
        if (table.schema.metadata or {}).get(FOUND_IN) == digest.encode():
            return dict(zip(table["clip_id"].to_pylist(), table["found"].to_pylist(), strict=True))
    except (FileNotFoundError, pa.ArrowInvalid):
        pass  # nothing was kept, or what is there is no table
    found = dict(find())
    if keep:
        schema = pa.schema([("clip_id", pa.string()), ("found", kind)], {FOUND_IN: digest.encode()})
        write_parquet(url, pa.table([list(found), list(found.values())], schema=schema))
    return found


def _digest(*values: str | bytes) -> str:
    """Names the values, and the code that searches in them."""
    digest = hashlib.sha256()
    code = (file.read_bytes() for file in sorted(Path(curate.dedup.__file__).parent.glob("*.py")))
    for value in (*code, *values):
        data = value if isinstance(value, bytes) else value.encode()
        digest.update(len(data).to_bytes(8))
        digest.update(data)
    return digest.hexdigest()
