"""Multi-head attention over tokens of a pack; self-attention is a token mixer.

Letters: N tokens of the sequence, M' tokens of the context, D width, H heads.
"""

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.model.attention import attention, has_flash
from train.model.exchange import own_heads, to_heads, to_tokens
from train.model.flops import linear_flops, num_pairs
from train.model.heads import normalised_and_rotated
from train.model.mixers.attention_config import Backend
from train.model.mixers.base import TokenMixer
from train.model.mixers.base_config import LOOSE, QKNorm
from train.model.position import Rotation
from train.model.ring_attention import ring_attention
from train.packing.layout import JointKeys
from train.packing.segments import Segments, WindowLayout


class Projections(nn.Module):
    """Queries, keys and values, normalised (ViT-22B, Dehghani et al. 2023, §2), and the output layer."""

    def __init__(
        self,
        *,
        width: int,
        num_heads: int,
        qk_norm: QKNorm,
        qk_norm_eps: float = 1e-6,
        context_width: int | None = None,
        bias: bool = True,
    ) -> None:
        """`context_width`: features of what keys and values are made of; none: D. `bias`: of queries, keys, values."""
        super().__init__()
        self.width, self.num_heads = width, num_heads
        self.to_q = nn.Linear(width, width, bias=bias)
        self.to_kv = nn.Linear(context_width or width, 2 * width, bias=bias)
        self.out = nn.Linear(width, width)
        normed = width if qk_norm == "width" else width // num_heads
        norms = (nn.RMSNorm(normed, eps=qk_norm_eps) if qk_norm else nn.Identity() for _ in range(2))
        self.norm_q, self.norm_k = norms
        self.loose = qk_norm_eps == LOOSE

    def project(self, x: Tensor, context: Tensor, rotation: Rotation | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """(N, D) and (M', D) to queries (N, H, D_head), keys and values, 2 × (M', H, D_head); queries and keys are
        normalised and rotated."""
        layers = self.to_q, self.to_kv
        if x is context and all(isinstance(layer, nn.Linear) for layer in layers):  # not where they have adapters
            # One product instead of two; the weights, much smaller than a pack, are joined for it.
            weight = torch.cat([self.to_q.weight, self.to_kv.weight])  # (3 D, D)
            bias = None if self.to_q.bias is None else torch.cat([self.to_q.bias, self.to_kv.bias])
            joined = F.linear(x, weight, bias)
            q, k, v = joined.unflatten(-1, (3, self.num_heads, -1)).unbind(-3)
        else:
            q = self.to_q(x).unflatten(-1, (self.num_heads, -1))
            k, v = self.to_kv(context).unflatten(-1, (2, self.num_heads, -1)).unbind(-3)
        q, k = (
            normalised_and_rotated(y, self._scale(norm), rotation, loose=self.loose)
            for y, norm in ((q, self.norm_q), (k, self.norm_k))
        )
        return q, k, v

    def _scale(self, norm: nn.Module) -> Tensor | None:
        """(D_head,) of a norm per head, (H, D_head) of one over all heads."""
        weight: Tensor | None = getattr(norm, "weight", None)
        if weight is None or len(weight) == self.width // self.num_heads:
            return weight
        return weight.view(self.num_heads, -1)

    @torch.no_grad()
    def initialize_projections(self) -> None:
        """DiT draws query, key and value as one matrix, (3 D, D)."""
        bound = math.sqrt(6 / (4 * self.width))
        for layer in (self.to_q, self.to_kv):
            nn.init.uniform_(layer.weight, -bound, bound)


class SelfAttention(Projections, TokenMixer):
    """Tokens see the tokens of their window, or those it reads; the heads are split evenly over the window layouts."""

    def __init__(self, *, kernel: Backend = "auto", **sizes: Any) -> None:
        super().__init__(**sizes)
        self.kernel = kernel

    def forward(self, x: Tensor, layouts: Sequence[WindowLayout], rotation: Rotation | None) -> Tensor:
        q, k, v = self.project(x, x, rotation)  # 3 × (N, H, D_head)
        shares = zip(layouts, *(y.chunk(len(layouts), dim=1) for y in (q, k, v)), strict=True)
        outs = [self._attend_within(*share) for share in shares]  # layouts × (N, H / layouts, D_head)
        return self.out((outs[0] if len(outs) == 1 else torch.cat(outs, dim=1)).flatten(1))  # (N, D)

    def _attend_within(self, layout: WindowLayout, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(N, H / layouts, D_head) in and out."""
        if layout.ring is not None and layout.share is not None:
            return ring_attention(layout.ring, layout.share, q, k, v, flash=has_flash(q, self.kernel))
        num_tokens, keys = len(q), layout.keys
        q, k, v = to_heads(layout.share, q, k, v)
        q = layout.apply(q)  # (G, H / layouts, D_head)
        if keys is None:
            k, v, read = layout.apply(k), layout.apply(v), layout.segments  # 2 × (G, H / layouts, D_head)
        else:
            k, v, read = k.index_select(0, keys.order), v.index_select(0, keys.order), keys.segments  # 2 × (K, …)
        out = layout.undo(attention(q, k, v, layout.segments, read, self.kernel))
        return to_tokens(layout.share, out, num_tokens)

    def flops(self, layouts: Sequence[WindowLayout], num_tokens: int) -> int:
        width = self.width // len(layouts)
        pairs = sum(num_pairs(one.segments, None if one.keys is None else one.keys.segments) for one in layouts)
        return linear_flops(self, num_tokens) + 4 * width * pairs

    def initialize(self) -> None:
        self.initialize_projections()


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """What cross-attention reads of pictures."""

    tokens: Tensor  # (I, D)
    segments: Segments  # over I
    given: Tensor  # (N, 1) bool: the token's segment has a picture


class PictureKeys(nn.Module):
    """Keys and values of pictures, whose attention is added to that of the context (IP-Adapter, Ye et al. 2023, §3.2;
    Wan 2.1)."""

    def __init__(self, width: int, norm: nn.Module) -> None:
        super().__init__()
        self.to_kv = nn.Linear(width, 2 * width)
        self.norm_k = norm


class CrossAttention(Projections):
    """Tokens see the context of their segment, and with joint keys the tokens of their window as well (W.A.L.T, Gupta
    et al. 2023, §3.3)."""

    def __init__(self, *, picture: bool = False, **sizes: Any) -> None:
        super().__init__(**sizes)
        self.picture = PictureKeys(self.width, deepcopy(self.norm_k)) if picture else None

    def forward(
        self,
        x: Tensor,
        context: Tensor,
        segments: Segments,
        context_segments: Segments,
        joint: JointKeys | None = None,
        picture: Picture | None = None,
    ) -> Tensor:
        """(N, D) over (M', D), with joint keys of the same width, to (N, D)."""
        if joint is None:
            q, k, v = self.project(x, context)  # (N, H, D_head), 2 × (M', H, D_head)
            h = attention(q, k, v, segments, context_segments).flatten(1)  # (N, D)
            if self.picture is not None and picture is not None:
                h = h + picture.given * self._see(picture, self.picture, q, segments)  # (N, D)
            return self.out(h)  # (N, D)
        q, k, v = self.project(x, torch.cat([x, context.to(x.dtype)]))  # (N, H, D_head), 2 × (N + M', H, D_head)
        share, num_tokens = joint.queries.share, len(x)
        if share is not None:
            # Of all tokens, and of the context, which every rank has, the heads that this rank attends with.
            q, *of_tokens = to_heads(share, q, k[:num_tokens], v[:num_tokens])
            of_context = [own_heads(share, y[num_tokens:]) for y in (k, v)]
            k, v = (torch.cat(both) for both in zip(of_tokens, of_context, strict=True))
        q, k, v = joint.queries.apply(q), k.index_select(0, joint.order), v.index_select(0, joint.order)
        h = joint.queries.undo(attention(q, k, v, joint.queries.segments, joint.segments))  # (N, H, D_head)
        return self.out(to_tokens(share, h, num_tokens).flatten(1))  # (N, D)

    def _see(self, picture: Picture, keys: PictureKeys, q: Tensor, segments: Segments) -> Tensor:
        """Of queries (N, H, D_head), (N, D)."""
        k, v = keys.to_kv(picture.tokens).unflatten(-1, (2, self.num_heads, -1)).unbind(-3)  # 2 × (I, H, D_head)
        k = normalised_and_rotated(k, self._scale(keys.norm_k), None, loose=self.loose)
        return attention(q, k, v, segments, picture.segments).flatten(1)

    def picture_flops(self, segments: Segments, pictures: Segments | None) -> int:
        """Of what pictures add."""
        if self.picture is None or pictures is None:
            return 0
        return linear_flops(self.picture, pictures.num_tokens) + 4 * self.width * num_pairs(segments, pictures)

    def flops(self, segments: Segments, context_segments: Segments, joint: JointKeys | None = None) -> int:
        """Matrix products of one forward pass, but for pictures."""
        num_read = context_segments.num_tokens + (0 if joint is None else segments.num_tokens)
        pairs = (segments, context_segments) if joint is None else (joint.queries.segments, joint.segments)
        of_tokens = linear_flops(self.to_q, segments.num_tokens) + linear_flops(self.out, segments.num_tokens)
        return of_tokens + linear_flops(self.to_kv, num_read) + 4 * self.width * num_pairs(*pairs)
