"""Groups of duplicates, and clusters. The search takes long where there are many clips, and no threshold of `select`
changes its result: the result is kept in DATASET/cache until something changes that it depends on.

The cache saves time and changes no result; it can be removed at any time.
"""

from collections.abc import Callable, Iterator, Mapping
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.compute as pc

import curate.dedup
from curate.dataset.cache import FOUND_IN, code_of, digest_of, open_found, tables_found
from curate.dataset.dataset import Dataset
from curate.dataset.ordered import Follower, cut_up
from curate.dataset.scans import SCAN, CurrentScans
from curate.dataset.store import Table, write_tables
from curate.dataset.table import open_parquet
from curate.dedup.balance import CLUSTER, find_clusters
from curate.dedup.groups import find_groups
from curate.dedup.semantic import Embeddings
from curate.split import GROUP
from pipelines.config import Config

GROUPS = pa.schema([("clip_id", pa.string()), (GROUP, pa.string())])
CLUSTERS = pa.schema([("clip_id", pa.string()), (CLUSTER, pa.int32())])


def find_duplicates(
    dataset: Dataset, config: Config, families: Mapping[str, Mapping[str, pa.DataType]], *, keep: bool
) -> tuple[Iterator[pa.Table], Iterator[pa.Table]]:
    """`clip_id` and `GROUP` of the clips that have copies, and `clip_id` and `CLUSTER` of those that have embeddings.
    Both come in tables, in order of id.

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

    def clips(name: str) -> Iterator[pa.Table]:
        """A column of the clips that count, in order of id."""
        return (scans.of(part).select(["clip_id", name]) for part in dataset.clips.in_order(["video_id", name]))

    def embeddings(folder: str) -> Embeddings | None:
        if not vectors:
            return None
        table, column = vectors
        stored = Follower(table.in_order([column]))

        def meant_ones() -> Iterator[pa.Table]:
            for part in clips("kind"):
                if part.num_rows:
                    of_part = stored.until(part["clip_id"][-1].as_py())
                    yield of_part.filter(pc.is_in(of_part["clip_id"], part["clip_id"].combine_chunks()))

        return Embeddings.on_disk(meant_ones(), column, f"{folder}/vectors")

    def groups() -> Iterator[pa.Table]:
        with TemporaryDirectory(prefix="reelpack-groups-") as folder:
            known = embeddings(folder) if by_meaning else None
            found = find_groups(clips("frame_hashes"), known, config.dedup)
        yield pa.table([list(found), list(found.values())], GROUPS).sort_by("clip_id")

    def clusters() -> Iterator[pa.Table]:
        with TemporaryDirectory(prefix="reelpack-clusters-") as folder:
            known = embeddings(folder)
            yield from (
                [CLUSTERS.empty_table()] if known is None else cut_up(find_clusters(known, config.dedup.balance))
            )

    return (
        _recalled(
            dataset.layout.cache("groups"),
            _digest_of(
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
            _digest_of(str(config.dedup.balance.num_clusters), "\n".join(meant), "\n".join(stored)),
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


def _recalled(
    url: str, digest: str, find: Callable[[], Iterator[pa.Table]], schema: pa.Schema, keep: bool
) -> Iterator[pa.Table]:
    """What `find` gives, from the file at `url` if that was found in what `digest` names."""
    if (table := open_found(url, digest)) is None:
        if not keep:
            return (part.cast(schema) for part in find())
        write_tables(url, (part.cast(schema) for part in find()), {FOUND_IN: digest.encode()})
        table = open_parquet(url)
        assert table is not None, "it was published"
    return tables_found(table)


def _digest_of(*values: str) -> str:
    """Names the values, and the code that searches in them."""
    return digest_of([*code_of(curate.dedup), *values])
