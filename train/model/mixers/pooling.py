"""Pooling as a token mixer (PoolFormer, Yu et al. 2022, §3.2): a baseline without weights, linear in tokens."""

from collections.abc import Sequence

from torch import Tensor

from train.model.exchange import to_heads, to_tokens
from train.model.mixers.base import TokenMixer
from train.model.position import Rotation
from train.packing.segments import WindowLayout


class Pooling(TokenMixer):
    """Mean over the window of a token, less the token: the block adds it to the token."""

    def forward(self, x: Tensor, layouts: Sequence[WindowLayout], rotation: Rotation | None) -> Tensor:
        (layout,) = layouts
        (own,) = to_heads(layout.share, x[..., None])  # (N, D, 1); of ranks that share a pack, some features of all
        tokens = layout.apply(own[..., 0])  # (G, D)
        means = layout.segments.gather(layout.segments.mean(tokens)).to(x.dtype)  # (G, D)
        return to_tokens(layout.share, layout.undo(means)[..., None], len(x))[..., 0] - x  # (N, D)

    def flops(self, layouts: Sequence[WindowLayout], num_tokens: int) -> int:
        """0: it has no matrix product."""
        return 0
