"""Floating-point operations of the matrix products of a forward pass, counted from a pack's segments.

A multiplication and an addition are two. A step takes three times those of its forward pass; what activation
checkpointing computes again is not counted (PaLM, Chowdhery et al. 2022, appendix B).
"""

from torch import nn

from train.packing.segments import Segments


def linear_flops(module: nn.Module | None, num_rows: int) -> int:
    """Of all linear layers of a module on (num_rows, D_in) each; 0 of None."""
    layers = [] if module is None else [part for part in module.modules() if isinstance(part, nn.Linear)]
    return sum(2 * num_rows * layer.in_features * layer.out_features for layer in layers)


def num_pairs(queries: Segments, keys: Segments | None = None) -> int:
    """Pairs of tokens that attend: one product of a query with a key each."""
    n, m = (segments.host.ends.diff().long() for segments in (queries, keys or queries))  # each (S,), on the host
    return int((n * m).sum())
