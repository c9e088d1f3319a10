"""Forward passes over as many items as fit."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def in_batches(work: Callable[[Any], np.ndarray], items: Sequence[Any] | np.ndarray, size: int) -> np.ndarray:
    """Results of `work` on N ≥ 1 items, `size` at a time, joined along the first axis: `(N, …)`.

    What does not fit into the memory of the GPU is tried again in halves, down to one item.
    """
    import torch

    results: list[np.ndarray] = []
    start = 0
    while start < len(items):
        try:
            results.append(work(items[start : start + size]))
            start += size
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            size //= 2
    return np.concatenate(results)
