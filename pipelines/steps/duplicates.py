"""Groups of duplicates, and clusters. The search takes long where there are many clips, and no threshold of `select`
changes its result: the result is kept in DATASET/cache until something changes that it depends on.

The cache saves time and changes no result; it can be removed at any time.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import curate.dedup
from curate.dataset.dataset import Dataset
from curate.dataset.scans import SCAN, CurrentScans
from curate.dataset.store import Table, write_parquet
from curate.dedup.balance import CLUSTER, find_clusters
from curate.dedup.groups import find_groups
from curate.dedup.semantic import Embeddings
from curate.split import GROUP
from curate.storage.place import locate
from pipelines.config import Config

FOUND_IN = b"found_in"
GROUPS = pa.schema([("clip_id", pa.string()), (GROUP, pa.string())])
CLUSTERS = pa.schema([("clip_id", pa.string()), (CLUSTER, pa.int32())])


def find_duplicates(
    dataset: Dataset, config: Config, families: Mapping[str, Mapping[str, pa.DataType]], *, keep: bool
) -> tuple[pa.Table, pa.Table]:
    """`clip_id` and `GROUP` of the clips that have copies, and `clip_id` and `CLUSTER` of those that have embeddings.

    Args:
        dataset: has the clips, the scores and the cache.
        config: names the scan whose clips are meant; what counts as a copy, and how many clusters there are.
        families: the score families; of those with vectors the last counts.
        keep: write the results to the cache; a command that only reads changes nothing in the dataset.
    """
    vectors = next(reversed([*_vectors(dataset, families)]), None)
    by_meaning = config.dedup.semantic.min_similarity is not None
    scans = CurrentScans(dataset, config.scan)
    # Parts are listed before they are read: one that comes in between is missing here, and no later run finds this
    # entry. A part is never written twice: equal names mean equal rows.
    stored = [vectors[0].url.rpartition("/")[2], vectors[1], *vectors[0].part_names()] if vectors else []
    meant = [*sorted(scans.videos[SCAN].to_pylist()), *dataset.clips.part_names()]

    @cache
    def hashes() -> pa.Table:
        rows = dataset.clips.in_order(["video_id", "frame_hashes"])
        return pa.concat_tables(scans.of(part).select(["clip_id", "frame_hashes"]) for part in rows)

    @cache
    def embeddings() -> Embeddings | None:
        ids = hashes()["clip_id"].combine_chunks()
        return Embeddings.of(vectors[0].parts([vectors[1]]), vectors[1], ids) if vectors else None

    def groups() -> pa.Table:
        found = find_groups(hashes(), embeddings() if by_meaning else None, config.dedup)
        return pa.table([list(found), list(found.values())], GROUPS).sort_by("clip_id")

    def clusters() -> pa.Table:
        return (
            CLUSTERS.empty_table() if (known := embeddings()) is None else find_clusters(known, config.dedup.balance)
        )

    return (
        _recalled(
            dataset.layout.cache("groups"),
            digest_of(
                config.dedup.model_dump_json(exclude={"balance"}),
                "\n".join(meant),
                "\n".join(stored if by_meaning else []),
            ),
            groups,
            GROUPS,
            keep,
        ),
        _recalled(
            dataset.layout.cache("clusters"),
            digest_of(str(config.dedup.balance.num_clusters), "\n".join(meant), "\n".join(stored)),
            clusters,
            CLUSTERS,
            keep,
        ),
    )


def _vectors(dataset: Dataset, families: Mapping[str, Mapping[str, pa.DataType]]) -> Iterator[tuple[Table, str]]:
    """Tables of embeddings, each with its column."""
    for family, columns in families.items():
        for name, kind in columns.items():
            if pa.types.is_nested(kind):
                yield dataset.scores(family, columns), name


def _recalled(url: str, digest: str, find: Callable[[], pa.Table], schema: pa.Schema, keep: bool) -> pa.Table:
    """What `find` gives, from the file at `url` if that was found in what `digest` names."""
    fs, path = locate(url)
    try:
        table = pq.read_table(path, filesystem=fs)
        if (table.schema.metadata or {}).get(FOUND_IN) == digest.encode() and table.schema.equals(schema):
            return table
    except (FileNotFoundError, pa.ArrowInvalid):
        pass  # nothing was kept, or what is there is no table
    found = find().cast(schema)
    if keep:
        write_parquet(url, found.replace_schema_metadata({FOUND_IN: digest.encode()}))
    return found


def digest_of(*values: str | bytes) -> str:
    """Names the values, and the code that searches in them."""
    digest = hashlib.sha256()
    code = (file.read_bytes() for file in sorted(Path(curate.dedup.__file__).parent.glob("*.py")))
    for value in (*code, *values):
        data = value if isinstance(value, bytes) else value.encode()
        digest.update(len(data).to_bytes(8))
        digest.update(data)
    return digest.hexdigest()
