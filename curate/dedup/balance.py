"""Weights that let rare concepts be seen more often: 1/√n within a cluster of n clips, never a deletion."""

import math
from collections.abc import Collection, Mapping

import numpy as np

from curate.dedup.config import BalanceConfig
from curate.dedup.semantic import Embeddings, cluster


def find_concepts(embeddings: Embeddings, config: BalanceConfig) -> dict[str, int]:
    """Clip id → number of its concept. Of all clips, kept or not: it takes long, and no policy changes it."""
    num_clusters = config.num_clusters or max(1, round(math.sqrt(len(embeddings) / 2)))
    labels = cluster(embeddings.vectors, num_clusters) if len(embeddings) else np.zeros(0, int)
    return dict(zip(embeddings.ids, labels.tolist(), strict=True))


def balance_weights(ids: Collection[str], concepts: Mapping[str, int], config: BalanceConfig) -> dict[str, float]:
    """Clip id → sampling weight, with a mean of 1.

    Movie Gen (2024, §3.2.1) samples concept clusters by the inverse square root of their size. A clip without a
    concept weighs 1.

    Args:
        ids: the clips to weigh; a concept is as large as it has clips among them.
        concepts: clip id → number, of some or all of them.
        config: the exponent.
    """
    weights = dict.fromkeys(ids, 1.0)
    known = [name for name in weights if name in concepts]
    if not known:
        return weights
    labels = np.array([concepts[name] for name in known])
    raw = np.bincount(labels)[labels] ** -config.exponent
    # Their sum depends on the order in its last bits.
    scaled = raw / (math.fsum(raw) / len(raw))
    return weights | {name: round(float(value), 6) for name, value in zip(known, scaled, strict=True)}
