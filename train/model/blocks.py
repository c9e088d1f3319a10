"""The transformer block of DiT (Peebles & Xie 2023, §3.2) on packed sequences.

Letters: N tokens of the sequence (L patches and in-context tokens), M' tokens of the context, D width, H heads.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.model.attention import attention
from train.model.conditioning import ConditionLinear, Conditions
from train.model.config import DiTConfig
from train.model.heads import normalised_and_rotated
from train.model.modulation import Modulation, ModulationParameters
from train.model.position import Rotation
from train.packing.segments import Segments, WindowLayout

Groups = Sequence[Sequence[WindowLayout]]
"""For each self-attention of a block, the window layouts that its heads are split over."""


class Attention(nn.Module):
    """Multi-head attention; queries and keys are normalised per head (ViT-22B, Dehghani et al. 2023, §2)."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.backend = config.attention
        self.num_heads = config.num_heads
        self.to_q = nn.Linear(config.width, config.width)
        self.to_kv = nn.Linear(config.width, 2 * config.width)
        self.out = nn.Linear(config.width, config.width)
        head_dim = config.width // config.num_heads
        self.norm_q, self.norm_k = (
            nn.RMSNorm(head_dim, eps=1e-6) if config.qk_norm else nn.Identity() for _ in range(2)
        )

    def project(self, x: Tensor, context: Tensor, rotation: Rotation | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """(N, D) and (M', D) to queries (N, H, D_head), keys and values, 2 × (M', H, D_head); the first two are
        normalised, and rotated by their positions."""
        if x is context:  # one product instead of two; the weights, much smaller than a pack, are joined for it
            weight = torch.cat([self.to_q.weight, self.to_kv.weight])  # (3 D, D)
            joined = F.linear(x, weight, torch.cat([self.to_q.bias, self.to_kv.bias]))
            q, k, v = joined.unflatten(-1, (3, self.num_heads, -1)).unbind(-3)
        else:
            q = self.to_q(x).unflatten(-1, (self.num_heads, -1))
            k, v = self.to_kv(context).unflatten(-1, (2, self.num_heads, -1)).unbind(-3)
        weights = getattr(self.norm_q, "weight", None), getattr(self.norm_k, "weight", None)
        q, k = (normalised_and_rotated(y, w, rotation) for y, w in zip((q, k), weights, strict=True))
        return q, k, v


class SelfAttention(Attention):
    """Tokens see the tokens of their group; the heads are split evenly over the window layouts."""

    def forward(self, x: Tensor, groups: Sequence[WindowLayout], rotation: Rotation | None) -> Tensor:
        q, k, v = self.project(x, x, rotation)  # 3 × (N, H, D_head)
        shares = zip(groups, *(y.chunk(len(groups), dim=1) for y in (q, k, v)), strict=True)
        outs = [self._attend_within(*share) for share in shares]  # groups × (N, H / groups, D_head)
        return self.out((outs[0] if len(outs) == 1 else torch.cat(outs, dim=1)).flatten(1))  # (N, D)

    def _attend_within(self, group: WindowLayout, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(N, H / groups, D_head) in and out."""
        q, k, v = group.apply(q), group.apply(k), group.apply(v)  # 3 × (G, H / groups, D_head)
        return group.undo(attention(q, k, v, group.segments, group.segments, self.backend))


class CrossAttention(Attention):
    """Tokens see the context of their segment."""

    def forward(self, x: Tensor, context: Tensor, segments: Segments, context_segments: Segments) -> Tensor:
        q, k, v = self.project(x, context)  # (N, H, D_head), 2 × (M', H, D_head)
        return self.out(attention(q, k, v, segments, context_segments).flatten(1))  # (N, D)


class DiTBlock(nn.Module):
    """Self-attention (spatial, then temporal where factorised), cross-attention, MLP; each added to its input."""

    def __init__(self, config: DiTConfig, num_self_attentions: int) -> None:
        super().__init__()
        hidden = int(config.width * config.mlp_ratio)
        self.modulation = Modulation(config, num_self_attentions + 1) if config.modulated else None
        self.norms = nn.ModuleList(layer_norm(config) for _ in range(num_self_attentions))
        self.self_attentions = nn.ModuleList(SelfAttention(config) for _ in range(num_self_attentions))
        self.cross_norm = layer_norm(config) if config.cross_attends else None
        self.cross_attention = CrossAttention(config) if config.cross_attends else None
        self.mlp_norm = layer_norm(config, config.mlp_norm_eps)
        self.mlp = nn.Sequential(
            nn.Linear(config.width, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, config.width)
        )

    def forward(
        self, x: Tensor, conditions: Conditions, segments: Segments, groups: Groups, rotation: Rotation | None
    ) -> Tensor:
        *modulations, of_mlp = self._modulations(conditions)  # of vectors (R, D)
        for i, (norm, self_attention) in enumerate(zip(self.norms, self.self_attentions, strict=True)):
            h = modulations[i].modulate(norm(x))  # (N, D)
            x = modulations[i].added(x, self_attention(h, groups[i], rotation))  # (N, D)
        if self.cross_attention is not None and self.cross_norm is not None:
            h = self.cross_norm(x)  # (N, D)
            x = x + self.cross_attention(h, conditions.context, segments, conditions.context_segments)  # (N, D)
        h = of_mlp.modulate(self.mlp_norm(x))  # (N, D)
        return of_mlp.added(x, self.mlp(h))  # (N, D)

    def _modulations(self, conditions: Conditions) -> list[ModulationParameters]:
        if self.modulation is None:
            return [ModulationParameters()] * (len(self.self_attentions) + 1)
        return self.modulation(conditions)


class FinalLayer(nn.Module):
    """Norm, adaptive where the blocks' are, and a linear layer back to patches."""

    def __init__(self, config: DiTConfig, out_dim: int) -> None:
        super().__init__()
        self.norm = layer_norm(config)
        self.modulation = ConditionLinear(config.width, 2 * config.width) if config.modulated else None
        self.linear = nn.Linear(config.width, out_dim)

    def forward(self, x: Tensor, conditions: Conditions) -> Tensor:
        h = self.norm(x)  # (N, D)
        if self.modulation is not None:
            shift, scale = self.modulation(nn.functional.silu(conditions.vectors.float())).chunk(
                2, dim=-1
            )  # 2 × (R, D)
            h = ModulationParameters(shift=shift, scale=scale, condition_ids=conditions.condition_ids).modulate(
                h
            )  # (N, D)
        return self.linear(h)  # (N, P_out)


def layer_norm(config: DiTConfig, eps: float = 1e-6) -> nn.LayerNorm:
    """Its own scale and shift only where no condition gives them."""
    return nn.LayerNorm(config.width, elementwise_affine=not config.modulated, eps=eps)
