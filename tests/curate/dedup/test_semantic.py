import math
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from curate.dataset.store import Table, write_parquet
from curate.dataset.table import NUM_READERS
from curate.dedup import semantic
from curate.dedup.balance import CLUSTER, cluster_weights, find_clusters
from curate.dedup.components import union
from curate.dedup.config import BalanceConfig, SemanticConfig
from curate.dedup.semantic import Embeddings, cluster, semantic_pairs

DIM = 32


def embeddings(vectors: np.ndarray, order: np.ndarray | None = None) -> Embeddings:
    ids = [f"{row:05d}" for row in range(len(vectors))]
    rows = np.arange(len(vectors)) if order is None else order
    lists = pa.FixedSizeListArray.from_arrays(vectors[rows].astype(np.float32).ravel(), DIM)
    return Embeddings.of([pa.table({"clip_id": [ids[row] for row in rows], "embedding": lists})], "embedding", ids)


def clouds(sizes: list[int], spread: float, seed: int = 0) -> np.ndarray:
    """Unit vectors around random centers, `sizes[i]` around center i."""
    rng = np.random.default_rng(seed)
    points = [rng.normal(size=DIM) + spread * rng.normal(size=(size, DIM)) for size in sizes]
    vectors = np.concatenate(points)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("block", [16, 2048])
def test_the_groups_are_those_of_all_pairs_of_one_partition(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(semantic, "BLOCK", block)
    given = embeddings(clouds([8] * 20, 0.17))
    found = semantic_pairs(given, SemanticConfig(min_similarity=0.97, num_partitions=1))
    products = given.vectors.astype(np.int64) @ given.vectors.T.astype(np.int64)
    close = zip(*np.nonzero(products >= 0.97 * semantic.SCALE**2), strict=True)
    ids = given.ids.to_pylist()
    wanted = union([(ids[i], ids[j]) for i, j in close if i < j])
    assert union(found) == wanted
    assert 10 < len(set(wanted.values())) < len(wanted) < len(given)


def test_a_similarity_that_is_just_the_least_is_enough() -> None:
    vectors = np.eye(DIM)[[0, 0, 1]]
    assert semantic_pairs(embeddings(vectors), SemanticConfig(min_similarity=1.0)) == [("00000", "00001")]


def test_many_clips_alike_need_no_more_pairs_than_clips() -> None:
    vectors = np.tile(clouds([1], 0.0), (300, 1))
    pairs = semantic_pairs(embeddings(vectors), SemanticConfig(min_similarity=0.99))
    assert pairs == [("00000", f"{row:05d}") for row in range(1, 300)]


def test_the_order_of_rows_changes_nothing() -> None:
    vectors = clouds([40, 30, 50], 0.2)
    shuffled = np.random.default_rng(1).permutation(len(vectors))
    config = SemanticConfig(min_similarity=0.9, num_partitions=5)
    assert semantic_pairs(embeddings(vectors), config) == semantic_pairs(embeddings(vectors, shuffled), config)


def test_products_of_rounded_vectors_are_exact_in_float32() -> None:
    vectors = embeddings(clouds([200], 1.0)).vectors.astype(np.float32)
    np.testing.assert_array_equal(vectors @ vectors.T, vectors.astype(np.int64) @ vectors.T.astype(np.int64))


def test_clouds_that_lie_apart_are_clusters() -> None:
    vectors = embeddings(clouds([60] * 4, 0.05)).vectors
    labels = cluster(vectors, 8)
    for start in range(0, 240, 60):
        others = np.delete(labels, slice(start, start + 60))
        assert not set(labels[start : start + 60]) & set(others)


def test_a_center_that_nothing_is_near_to_stays_and_may_get_vectors_later() -> None:
    one, other = [-1448, -1448], [-1448, 1448]
    vectors = np.array([one, one, one, other, other, other, one], np.int16)
    assert cluster(vectors, 2).tolist() == [0, 0, 0, 1, 1, 1, 0]


def test_weights_have_mean_one_and_fall_with_the_root_of_the_cluster() -> None:
    given = embeddings(clouds([90, 10], 0.02))
    labels = cluster(given.vectors, 2)
    if len(set(labels)) == 1:
        pytest.fail("the clouds were not told apart")
    config = BalanceConfig(num_clusters=2)
    assert find_clusters(given, config)[CLUSTER].to_pylist() == labels.tolist()
    sizes = np.bincount(labels)
    weights = cluster_weights(sizes, config)
    assert weights @ sizes / sizes.sum() == pytest.approx(1, abs=1e-5)
    assert weights[labels[99]] / weights[labels[0]] == pytest.approx(
        math.sqrt(sizes[labels[0]] / sizes[labels[99]]), rel=1e-4
    )


def test_without_vectors_there_are_no_clusters() -> None:
    assert not find_clusters(embeddings(np.zeros((3, DIM))), BalanceConfig()).num_rows
    assert cluster_weights(np.zeros(2, int), BalanceConfig()).tolist() == [1.0, 1.0]


def test_embeddings_are_the_same_part_by_part_of_the_clips_that_are_meant() -> None:
    vectors = clouds([12], 1.0)
    whole = embeddings(vectors)

    def part(rows: Sequence[int], numbers: np.ndarray) -> pa.Table:
        return pa.table({"clip_id": [f"{row:05d}" for row in rows], "embedding": list(numbers.astype(np.float32))})

    nothing = pa.table({"clip_id": ["00004"], "embedding": pa.nulls(1, pa.list_(pa.float32()))})
    parts = [part(range(6), -vectors[:6]), nothing, part(range(12), vectors), part([11], np.zeros((1, DIM)))]
    found = Embeddings.of(iter(parts), "embedding", [f"{row:05d}" for row in (20, *range(11, -1, -2))])
    assert found.ids.equals(whole.ids[1:11:2])
    np.testing.assert_array_equal(found.vectors, whole.vectors[1:11:2])


def test_embeddings_are_read_in_the_memory_of_their_rounded_numbers(tmp_path: Path) -> None:
    schema = pa.schema([("clip_id", pa.string()), ("embedding", pa.list_(pa.float32()))])
    table = Table(str(tmp_path), schema, ["clip_id"])
    rng = np.random.default_rng(0)
    for start in range(0, 8000, 200):
        vectors = rng.integers(-200, 200, (200, 512)).astype(np.float32)
        rows = pa.table({"clip_id": [f"{start + row:06d}" for row in range(200)], "embedding": list(vectors)})
        write_parquet(f"{tmp_path}/part-{start:06d}-0.parquet", rows.cast(table.schema))
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    peaks: list[int] = []

    def watched() -> Iterator[pa.Table]:
        for part in table.parts(["embedding"]):
            peaks.append(pa.total_allocated_bytes() - before)
            yield part

    found = Embeddings.of(watched(), "embedding", table.ids())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == 8000
    assert max(peaks) + peak < 2 * found.vectors.nbytes + NUM_READERS * 200 * 512 * 4


def test_clusters_are_found_in_the_memory_of_a_block() -> None:
    num_clusters, vectors = 400, embeddings(clouds([20] * 1000, 0.5)).vectors
    tracemalloc.start()
    cluster(vectors, num_clusters)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    every_product = len(vectors) * num_clusters * vectors.itemsize
    assert peak < every_product / 2
