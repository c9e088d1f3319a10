"""Retrieval: does a text find its clip among N, and a clip its text?"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

AT = (1, 5, 10)
Z = 1.96
"""Of a 95 % interval, in standard deviations."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recall:
    """Retrieval in one direction.

    Attributes:
        num_queries: Texts, each once, or clips.
        num: Candidates.
        at: k → share of the queries whose best match is among the first k.
        interval: k → the 95 % interval of that share over the choice of queries. The candidates stay: it does not tell
            how recall changes with their number.
        chance: k → the share that a random order gives.
        median_rank: Of the best match; 1 is the first.
    """

    num_queries: int
    num: int
    at: Mapping[int, float]
    interval: Mapping[int, tuple[float, float]]
    chance: Mapping[int, float]
    median_rank: float

    def row(self) -> dict[str, Any]:
        """As it stands in metrics.jsonl."""
        shares = {f"recall@{k}": share for k, share in self.at.items()}
        ends = {f"recall@{k}_{end}": self.interval[k][i] for k in self.at for i, end in enumerate(("low", "high"))}
        chances = {f"chance@{k}": share for k, share in self.chance.items()}
        return {
            "num_queries": self.num_queries,
            "num": self.num,
            "median_rank": self.median_rank,
            **shares,
            **ends,
            **chances,
        }


def recall(queries: np.ndarray, candidates: np.ndarray, matches: np.ndarray, at: Sequence[int] = AT) -> Recall:
    """Retrieval of candidates by queries.

    Args:
        queries: (Q, d) unit vectors.
        candidates: (N, d) unit vectors.
        matches: (Q, N) bool: which candidates (columns) are right for a query; at least one each.
        at: the numbers of first candidates that count.
    """
    num = len(candidates)
    ranks = np.concatenate([_ranks(queries[rows] @ candidates.T, matches[rows]) for rows in _blocks(len(queries))])
    sizes, counts = np.unique(matches.sum(axis=1), return_counts=True)
    shares = {k: float((ranks <= k).mean()) for k in at}
    return Recall(
        num_queries=len(queries),
        num=num,
        at=shares,
        interval={k: _interval(share, len(queries)) for k, share in shares.items()},
        chance={k: float(np.average([_chance(num, int(size), k) for size in sizes], weights=counts)) for k in at},
        median_rank=float(np.median(ranks)),
    )


def _blocks(count: int, size: int = 1024) -> list[slice]:
    return [slice(start, start + size) for start in range(0, count, size)]


def _ranks(similar: np.ndarray, is_match: np.ndarray) -> np.ndarray:
    """(n,) int64, from 1 on, of (n, N) similarities: how many wrong candidates are as near as the nearest right one,
    or nearer. So embeddings that are all equal find nothing."""
    best = np.where(is_match, similar, -np.inf).max(axis=1, keepdims=True)
    return np.asarray(1 + (~is_match & (similar >= best)).sum(axis=1))


def _chance(num: int, num_matches: int, k: int) -> float:
    """That one of `num_matches` is among the first k of `num` in random order."""
    return 1.0 - math.comb(num - num_matches, k) / math.comb(num, k) if k <= num else 1.0


def _interval(share: float, num: int) -> tuple[float, float]:
    """Of a share among `num` queries (Wilson 1927, score interval): also where none, or each, is a hit, and drawing
    them again would never give another share."""
    middle = (share + Z**2 / (2 * num)) / (1 + Z**2 / num)
    half = Z / (1 + Z**2 / num) * math.sqrt(share * (1 - share) / num + Z**2 / (4 * num**2))
    return max(0.0, middle - half), min(1.0, middle + half)
