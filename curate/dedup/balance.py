"""Sampling weights by cluster: 1/√n for each of n clips. Rare content is seen more often, and nothing is deleted."""

import math
from collections.abc import Collection, Mapping

import numpy as np

from curate.dedup.config import BalanceConfig
from curate.dedup.semantic import Embeddings, cluster


def find_clusters(embeddings: Embeddings, config: BalanceConfig) -> dict[str, int]:
    """Clip id → number of its cluster, for all clips, kept or not: the search takes long, and no policy changes it."""
    num_clusters = config.num_clusters or max(1, round(math.sqrt(len(embeddings) / 2)))
    labels = cluster(embeddings.vectors, num_clusters) if len(embeddings) else np.zeros(0, int)
    return dict(zip(embeddings.ids, labels.tolist(), strict=True))


def balance_weights(ids: Collection[str], clusters: Mapping[str, int], config: BalanceConfig) -> dict[str, float]:
    """Clip id → sampling weight, with a mean of 1.

    Movie Gen (2024, §3.2.1) samples clusters of concepts by the inverse square root of their size. A clip without a
    cluster weighs 1.

    Args:
        ids: the clips to weigh; only these count for the size of a cluster.
        clusters: clip id → number, of some or all of them.
        config: the exponent.
    """
    weights = dict.fromkeys(ids, 1.0)
    known = [name for name in weights if name in clusters]
    if not known:
        return weights
    labels = np.array([clusters[name] for name in known])
    raw = np.bincount(labels)[labels] ** -config.exponent
    # Their sum depends on the order in its last bits.
    scaled = raw / (math.fsum(raw) / len(raw))
    return weights | {name: round(float(value), 6) for name, value in zip(known, scaled, strict=True)}
