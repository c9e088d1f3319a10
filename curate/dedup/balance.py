"""Weights that let rare concepts be seen more often: 1/√n within a cluster of n clips, never a deletion."""

import math
from collections.abc import Collection

import numpy as np

from curate.dedup.config import BalanceConfig
from curate.dedup.semantic import Embeddings, cluster


def balance_weights(ids: Collection[str], embeddings: Embeddings | None, config: BalanceConfig) -> dict[str, float]:
    """Clip id → sampling weight, with a mean of 1.

    Movie Gen (2024, §3.2.1) samples concept clusters by the inverse square root of their size. A clip without an
    embedding weighs 1.

    Args:
        ids: the clips to weigh.
        embeddings: of some or all of them.
        config: exponent and number of clusters.
    """
    weights = dict.fromkeys(ids, 1.0)
    if embeddings is None:
        return weights
    known = embeddings.subset(set(ids))
    if not len(known):
        return weights
    labels = cluster(known.vectors, config.num_clusters or max(1, round(math.sqrt(len(known) / 2))))
    raw = np.bincount(labels)[labels] ** -config.exponent
    scaled = raw / raw.mean()
    return weights | {name: round(float(value), 6) for name, value in zip(known.ids, scaled, strict=True)}
