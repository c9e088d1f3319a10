"""The transformer block of DiT (Peebles & Xie 2023, §3.2) on packed sequences.

Letters: N tokens of the sequence (L patches and in-context tokens), M' tokens of the context, D width, R condition
vectors.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

from torch import Tensor, nn

from train.model.conditioning import Conditions
from train.model.dit_config import DiTConfig
from train.model.flops import linear_flops
from train.model.gated_convolution import GatedConvolution
from train.model.mixers.attention import CrossAttention
from train.model.modulation import Modulation, ModulationParameters, final_modulation, layer_norm
from train.model.position import Rotation
from train.model.temporal import Time, temporal_layers
from train.packing.layout import JointKeys, TimeLayout
from train.packing.segments import Segments, WindowLayout

Layouts: TypeAlias = Sequence[Sequence[WindowLayout]]
"""For each token mixer of a block, the window layouts that its heads are split over."""


class DiTBlock(nn.Module):
    """Token mixers (spatial, then temporal where factorised), layers along time, cross-attention, MLP; each added to
    its input."""

    def __init__(self, config: DiTConfig, block: int) -> None:
        super().__init__()
        num_mixers = len(config.windows(block))
        sizes: dict[str, Any] = {"width": config.width, "num_heads": config.num_heads}
        sizes |= {"qk_norm": config.qk_norm, "qk_norm_eps": config.qk_norm_eps}
        self.modulation = Modulation(config, num_mixers + 1) if config.modulated else None
        self.norms = nn.ModuleList(block_norm(config) for _ in range(num_mixers))
        # The token mixers, under their name in checkpoints.
        self.self_attentions = nn.ModuleList(config.mixer.build(block=block, **sizes) for _ in range(num_mixers))
        self.temporal = temporal_layers(config)
        attends = config.cross_attends(block)
        of_cross = {"num_heads": config.cross_attention_heads or config.num_heads}
        of_cross |= {"picture": config.picture is not None}
        self.cross_norm = cross_norm(config) if attends else None
        self.cross_attention = CrossAttention(**sizes | of_cross) if attends else None
        self.mlp_norm = block_norm(config, config.mlp_norm_eps)
        self.mlp = feed_forward(config)

    def forward(
        self,
        x: Tensor,
        conditions: Conditions,
        segments: Segments,
        layouts: Layouts,
        rotation: Rotation | None,
        keys: JointKeys | None,
        time: Time | None,
    ) -> Tensor:
        *modulations, of_mlp = self._modulations(conditions)  # of vectors (R, D)
        for i, (norm, mixer) in enumerate(zip(self.norms, self.self_attentions, strict=True)):
            h = modulations[i].modulate(norm(x))  # (N, D)
            x = modulations[i].added(x, mixer(h, layouts[i], rotation))  # (N, D)
        for layer in self.temporal.values():
            x = layer(x, conditions, time)  # (N, D)
        if self.cross_attention is not None and self.cross_norm is not None:
            h = self.cross_norm(x)  # (N, D)
            read = conditions.context, segments, conditions.context_segments, keys, conditions.picture
            x = x + self.cross_attention(h, *read)  # (N, D)
        h = of_mlp.modulate(self.mlp_norm(x))  # (N, D)
        inputs = (h,) if conditions.neighbors is None else (h, conditions.neighbors)
        return of_mlp.added(x, self.mlp(*inputs))  # (N, D)

    def flops(
        self,
        layouts: Layouts,
        segments: Segments,
        context_segments: Segments | None,
        keys: JointKeys | None,
        time: TimeLayout | None,
        num_condition_vectors: int,
    ) -> int:
        """Matrix products of one forward pass."""
        total = linear_flops(self.modulation, num_condition_vectors) + linear_flops(self.mlp, segments.num_tokens)
        for mixer, of_mixer in zip(self.self_attentions, layouts, strict=True):
            total += mixer.flops(of_mixer, segments.num_tokens)
        if time is not None:
            total += sum(
                layer.flops(time, segments.num_tokens, num_condition_vectors) for layer in self.temporal.values()
            )
        if self.cross_attention is not None and context_segments is not None:
            total += self.cross_attention.flops(segments, context_segments, keys)
        return total

    def _modulations(self, conditions: Conditions) -> list[ModulationParameters]:
        if self.modulation is None:
            return [ModulationParameters()] * (len(self.self_attentions) + 1)
        return self.modulation(conditions)


class FinalLayer(nn.Module):
    """Norm, adaptive where the blocks' are, and a linear layer back to patches."""

    def __init__(self, config: DiTConfig, out_dim: int) -> None:
        super().__init__()
        self.norm = layer_norm(config)
        self.modulation = final_modulation(config) if config.modulated else None
        self.linear = nn.Linear(config.width, out_dim)

    def forward(self, x: Tensor, conditions: Conditions) -> Tensor:
        h = self.norm(x)  # (N, D)
        if self.modulation is not None:
            shift, scale = self.modulation(conditions.vectors).chunk(2, dim=-1)  # 2 × (R, D)
            of_tokens = ModulationParameters(shift=shift, scale=scale, condition_ids=conditions.condition_ids)
            h = of_tokens.modulate(h)  # (N, D)
        return self.linear(h)  # (N, P_out)


def feed_forward(config: DiTConfig) -> nn.Module:
    """What follows the token mixers."""
    hidden = int(config.width * config.mlp_ratio)
    if config.mlp == "gated_convolution":
        return GatedConvolution(config.width, hidden)
    return nn.Sequential(nn.Linear(config.width, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, config.width))


def block_norm(config: DiTConfig, eps: float = 1e-6) -> nn.Module:
    """What token mixers and the MLP read."""
    if config.norm == "layer":
        return layer_norm(config, eps)
    return nn.RMSNorm(config.width, elementwise_affine=not config.modulated, eps=eps)


def cross_norm(config: DiTConfig) -> nn.Module:
    """What cross-attention makes its queries of."""
    match config.cross_attention_norm:
        case "plain":
            return layer_norm(config)
        case "affine":
            return nn.LayerNorm(config.width, eps=1e-6)
        case "none":
            return nn.Identity()
