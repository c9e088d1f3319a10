"""Connected components: of names, and of rows that are joined a batch of pairs at a time."""

from collections.abc import Iterable

import numpy as np


def union(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Member → smallest member of its connected component."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while (above := parent.setdefault(name, name)) != name:
            parent[name] = name = parent[above]
        return name

    for one, other in pairs:
        a, b = root(one), root(other)
        parent[max(a, b)] = min(a, b)
    return {name: root(name) for name in parent}


def join(first: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """(n,) the first row of each row's component, after rows `i` and `j` are joined, pair by pair.

    Args:
        first: (n,) before that; `np.arange(n)` where nothing is joined yet.
        i, j: (m,) rows.
    """
    while len(apart := np.flatnonzero(first[i] != first[j])):
        i, j = i[apart], j[apart]
        low, high = np.minimum(first[i], first[j]), np.maximum(first[i], first[j])
        above = np.arange(len(first))
        np.minimum.at(above, high, low)
        while (above[above] != above).any():
            above = above[above]
        first = above[first]
    return first
