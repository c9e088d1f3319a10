"""Sampling weights by cluster: 1/√n for each of n clips. Rare content is seen more often, and nothing is deleted."""

import math
from fractions import Fraction

import numpy as np
import pyarrow as pa

from curate.dedup.config import BalanceConfig
from curate.dedup.semantic import Embeddings, cluster

CLUSTER = "__cluster"
"""Column with the number of a clip's cluster."""


def find_clusters(embeddings: Embeddings, config: BalanceConfig) -> pa.Table:
    """`clip_id`, sorted, and the number of its `cluster`, for all clips, kept or not: the search takes long, and no
    policy changes it."""
    num_clusters = config.num_clusters or max(1, round(math.sqrt(len(embeddings) / 2)))
    labels = cluster(embeddings.vectors, num_clusters) if len(embeddings) else np.zeros(0, int)
    return pa.table({"clip_id": embeddings.ids, CLUSTER: pa.array(labels, pa.int32())})


def cluster_weights(sizes: np.ndarray, config: BalanceConfig) -> np.ndarray:
    """(K,) the sampling weight of a clip of each cluster, with a mean of 1 over the clips.

    Movie Gen (2024, §3.2.1) samples clusters of concepts by the inverse square root of their size.

    Args:
        sizes: (K,) clips of each cluster, without those that are not kept.
        config: the exponent.
    """
    raw = np.maximum(sizes, 1) ** -config.exponent
    # Exact: a sum of floats depends on their order in its last bits.
    total = sum(
        (Fraction(weight) * size for weight, size in zip(raw.tolist(), sizes.tolist(), strict=True)), Fraction(0)
    )
    mean = float(total) / max(int(sizes.sum()), 1)
    return np.array([round(float(weight), 6) for weight in raw / (mean or 1.0)])
