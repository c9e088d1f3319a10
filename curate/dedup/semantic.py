"""Copies by meaning: SemDeDup (Abbas et al. 2023, arXiv 2303.09540, §3): k-means, then cosines within a cluster.

Vectors are rounded to whole numbers that are small enough for float32 to add up without error, so clusters and
pairs are the same on every machine and in any order of summation. One block of a similarity matrix is in memory
at a time.
"""

import mmap
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.dedup.components import join, roots
from curate.dedup.config import SemanticConfig

SCALE = 2048
"""Length of a rounded vector. Products of two add up to at most 2²², float32 is exact to 2²⁴."""

SEED = 0
NUM_ITERATIONS = 10
FIT_PER_CLUSTER = 256
"""Vectors that the clusters are fitted to, for each: more move the centers little."""

BLOCK = 2048
CLIPS_PER_PARTITION = 1000


@dataclass(frozen=True, kw_only=True, eq=False)
class Embeddings:
    """`vectors` (N, d) int16: unit vectors times `SCALE`, rounded to whole numbers; `ids` sorted, one per row."""

    ids: pa.Array
    vectors: np.ndarray

    @classmethod
    def of(cls, parts: Iterable[pa.Table], column: str, ids: Iterable[str] | pa.Array) -> "Embeddings":
        """From tables of `clip_id` and lists of numbers that may come one at a time: no more than the rounded vectors
        and one table are in memory.

        Args:
            parts: where a clip stands twice, the last vector counts.
            column: the lists.
            ids: the clips that are meant; those without a vector, or with one of length 0, are left out.
        """
        names = (ids if isinstance(ids, pa.Array) else pa.array(list(ids), pa.string())).sort()
        rounded = np.zeros((len(names), 1), np.int16)
        for part in parts:
            part = part.select(["clip_id", column]).filter(pc.is_valid(part[column])).combine_chunks()
            places = pc.fill_null(pc.index_in(part["clip_id"], names), -1).to_numpy()
            for start in range(0, part.num_rows, BLOCK):
                batch, rows = part.slice(start, BLOCK), places[start : start + BLOCK]
                vectors = _rounded(batch[column])
                if rounded.shape[1] != vectors.shape[1]:
                    rounded = np.zeros((len(names), vectors.shape[1]), np.int16)
                rounded[rows[rows >= 0]] = vectors[rows >= 0]
        usable = rounded.any(1)
        if usable.all():
            return cls(ids=names, vectors=rounded)
        return cls(ids=names.filter(pa.array(usable)), vectors=rounded[usable])

    @classmethod
    def on_disk(cls, parts: Iterable[pa.Table], column: str, path: str) -> "Embeddings":
        """Likewise, with the vectors in a file: the ids alone are in memory.

        Args:
            parts: in order of id, each id once: the clips that are meant.
            column: the lists.
            path: of the file, which stays.
        """
        names, dim = [pa.array([], pa.string())], 1
        with open(path, "wb") as file:
            for part in parts:
                part = part.filter(pc.is_valid(part[column])).combine_chunks()
                for start in range(0, part.num_rows, BLOCK):
                    batch = part.slice(start, BLOCK)
                    vectors = _rounded(batch[column])
                    usable, dim = vectors.any(1), vectors.shape[1]
                    vectors[usable].tofile(file)
                    names.append(batch["clip_id"].combine_chunks().filter(pa.array(usable)))
        ids = pa.concat_arrays(names)
        shape = (len(ids), dim)
        vectors = np.memmap(path, np.int16, "r", shape=shape) if len(ids) else np.zeros(shape, np.int16)
        return cls(ids=ids, vectors=vectors)

    def __len__(self) -> int:
        return len(self.ids)


def _rounded(lists: pa.ChunkedArray) -> np.ndarray:
    """(n, d) int16: unit vectors times `SCALE`; of one without a length 0."""
    vectors = pc.list_flatten(lists).to_numpy().astype(np.float32).reshape(len(lists), -1)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(np.rint(vectors / np.where(norms > 0, norms, 1) * SCALE).astype(np.int16))


def _release(vectors: np.ndarray) -> None:
    """Let go of the pages of a file that were read."""
    if (mapped := getattr(vectors, "_mmap", None)) is not None:
        mapped.madvise(mmap.MADV_DONTNEED)


def semantic_pairs(embeddings: Embeddings, config: SemanticConfig) -> list[tuple[str, str]]:
    """Pairs that join what has, within one partition, a cosine of at least `min_similarity`; the smaller id first.

    A spanning set of all such pairs: a million equal clips have 10¹² pairs.
    """
    assert config.min_similarity is not None
    if not len(embeddings):
        return []
    num_partitions = config.num_partitions or max(1, round(len(embeddings) / CLIPS_PER_PARTITION))
    labels = cluster(embeddings.vectors, num_partitions)
    limit = config.min_similarity * SCALE**2
    order = np.argsort(labels, kind="stable")
    pairs: list[tuple[str, str]] = []
    for rows in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        first = rows[_joined(embeddings.vectors[rows], limit)]
        joined = (embeddings.ids.take(pa.array(ends[first != rows])).to_pylist() for ends in (first, rows))
        pairs += zip(*joined, strict=True)
    return pairs


def cluster(vectors: np.ndarray, num_clusters: int) -> np.ndarray:
    """Spherical k-means: (N, d) rounded vectors to (N,) cluster numbers, a function of the vectors alone."""
    rng = np.random.default_rng(SEED)
    num_clusters = min(num_clusters, len(vectors))
    sample = vectors
    if len(vectors) > num_clusters * FIT_PER_CLUSTER:
        sample = vectors[np.sort(rng.choice(len(vectors), num_clusters * FIT_PER_CLUSTER, replace=False))]
    centers = sample[np.sort(rng.choice(len(sample), num_clusters, replace=False))].astype(np.float32)
    for _ in range(NUM_ITERATIONS):
        labels = _nearest(sample, centers)
        sums = _sums(sample, labels, num_clusters)
        norms = np.sqrt(np.square(sums).sum(1, keepdims=True))
        # A center that nothing is near to stays.
        moved = np.where(norms > 0, np.rint(sums / np.maximum(norms, 1) * SCALE), centers).astype(np.float32)
        if np.array_equal(moved, centers):
            break
        centers = moved
    return _nearest(vectors, centers)


def _nearest(vectors: np.ndarray, centers: np.ndarray) -> np.ndarray:
    nearest = np.empty(len(vectors), np.int32)
    for start in range(0, len(vectors), BLOCK):
        block = vectors[start : start + BLOCK]
        nearest[start : start + BLOCK] = (block.astype(np.float32) @ centers.T).argmax(1)
        _release(block)
    return nearest


def _sums(vectors: np.ndarray, labels: np.ndarray, num_clusters: int) -> np.ndarray:
    """(num_clusters, d) float64: sums of the vectors of each cluster; exact, being of whole numbers below 2⁵³."""
    sums = np.zeros((num_clusters, vectors.shape[1]))
    order = np.argsort(labels, kind="stable")
    for start in range(0, len(order), BLOCK):
        rows = order[start : start + BLOCK]
        present, first = np.unique(labels[rows], return_index=True)
        sums[present] += np.add.reduceat(vectors[rows], first, axis=0, dtype=np.float64)
    return sums


def _joined(vectors: np.ndarray, limit: float) -> np.ndarray:
    """(n,) the first row of each row's component, where rows are joined by a product of at least `limit`."""
    first = np.arange(len(vectors))
    for start in range(0, len(vectors), BLOCK):
        left = vectors[start : start + BLOCK].astype(np.float32)
        for other in range(start, len(vectors), BLOCK):
            i, j = np.nonzero(left @ vectors[other : other + BLOCK].astype(np.float32).T >= limit)
            join(first, i + start, j + other)
    return roots(first, np.arange(len(first)))
