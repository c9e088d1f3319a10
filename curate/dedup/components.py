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


def join(first: np.ndarray, i: np.ndarray, j: np.ndarray) -> None:
    """Join rows `i` and `j`, pair by pair, at a cost that does not depend on the number of all rows.

    Args:
        first: (n,) a row of each row's component that is not after it, its own for the first one of a component alone:
            `np.arange(n)` where nothing is joined yet. It is changed.
        i, j: (m,) rows.
    """
    while True:
        low, high = np.sort([roots(first, i), roots(first, j)], axis=0)
        if (low == high).all():
            return
        np.minimum.at(first, high, low)


def roots(first: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(m,) the first row of each row's component, which `first` names from now on."""
    found = first[rows]
    while ((above := first[found]) != found).any():
        found = above
    first[rows] = found
    return found
