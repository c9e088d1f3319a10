"""Linear attention (Katharopoulos et al. 2020, §3.2) with ReLU (Sana, Xie et al. 2024, §2.2).

Letters: N tokens, H heads, G segments of a run of equal ones, n tokens of each.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from train.model.flops import linear_flops
from train.model.mixers.attention import Projections
from train.model.mixers.base import TokenMixer
from train.model.position import Rotation
from train.model.segment_attention import runs_of
from train.packing.segments import Segments, WindowLayout

EPS = 1e-15
"""Added to the sum of weights, which ReLU may make 0: of Sana's code."""


class LinearAttention(Projections, TokenMixer):
    """The weight of a key is relu(q) · relu(k) over its sum: keys and values of a segment are summed once."""

    def forward(self, x: Tensor, layouts: Sequence[WindowLayout], rotation: Rotation | None) -> Tensor:
        (layout,) = layouts
        q, k, v = (layout.apply(y) for y in self.project(x, x))  # 3 × (tokens of the layout, H, D_head)
        return self.out(layout.undo(linear_attention(q, k, v, layout.segments)).flatten(1))  # (N, D)

    def flops(self, layouts: Sequence[WindowLayout], num_tokens: int) -> int:
        (layout,) = layouts
        products = 4 * self.width * (self.width // self.num_heads) * layout.segments.num_tokens
        return linear_flops(self, num_tokens) + products

    def initialize(self) -> None:
        self.initialize_projections()


@torch.compiler.disable  # the number of runs is that of a pack: a graph would be traced for each
def linear_attention(q: Tensor, k: Tensor, v: Tensor, segments: Segments) -> Tensor:
    """ReLU attention within segments, in float32.

    Args:
        q: (N, H, D_head); `k` and `v` likewise.
        segments: over N.

    Returns:
        (N, H, D_head) in the type of `q`.
    """
    outs, start, ends = [], 0, segments.host.ends
    with torch.autocast(q.device.type, enabled=False):
        for run in runs_of(ends, ends):
            rows = slice(start, start + run.g * run.n)
            start = rows.stop
            queries, keys, values = (run.heads_first(x[rows], run.n).float() for x in (q, k, v))  # (G, H, n, D_head)
            queries, keys = F.relu(queries), F.relu(keys)
            state = keys.transpose(-1, -2) @ F.pad(values, (0, 1), value=1.0)  # (G, H, D_head, D_head + 1)
            weighted = queries @ state  # (G, H, n, D_head + 1)
            out = weighted[..., :-1] / (weighted[..., -1:] + EPS)
            outs.append(out.transpose(1, 2).flatten(0, 1))  # (G n, H, D_head)
    return (torch.cat(outs) if len(outs) > 1 else outs[0]).to(q.dtype)
