"""The diffusion transformer (DiT, Peebles & Xie 2023) on packed sequences (NaViT, Dehghani et al. 2023).

Departures from DiT: patches are (t, h, w); samples of any grid share a pack; positions are 3-D RoPE or a factorised
sin-cos table; captions come in by cross-attention between self-attention and MLP (PixArt-α, Chen et al. 2023, §2.3)
and, pooled, by adaLN-Zero; queries and keys are normalised per head (Dehghani et al. 2023, ViT-22B, §2).

Letters: L tokens, S segments, M text tokens, D width, H heads, P = C·pt·ph·pw features of a patch.
"""

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from train.model.attention import attention
from train.model.conditioning import Conditioner, Conditions, Modulation, modulate
from train.model.patterns import Pattern, regroupings
from train.model.position import RotaryEmbedding, frame_seconds, rotate, sincos_embedding
from train.segments import PackedBatch, Patch, Regrouping, Segments

Rotation = tuple[Tensor, Tensor]


class DiTConfig(BaseModel):
    """Shape of the model. DiT-S is width 384, depth 12, 6 heads; DiT-XL is 1152, 28, 16."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(384, ge=16, description="features of a token inside the model")
    depth: int = Field(12, ge=1, description="number of blocks")
    num_heads: int = Field(6, ge=1, description="attention heads; they divide the width")
    mlp_ratio: float = Field(4.0, gt=0, description="hidden width of the MLP over the width")
    patch: Patch = Field((1, 2, 2), description="patch in latent frames, rows, columns")
    pattern: Pattern = Field("joint", description="who sees whom inside a sample")
    position: Literal["rope", "sincos"] = Field("rope", description="rotary on queries and keys, or an added table")
    reference_fps: float | None = Field(
        None, gt=0, description="frames count in units of 1 / reference_fps seconds; none: in latent frames"
    )
    condition_on_fps: bool = Field(True, description="the clip's frames per second steer the model")
    qk_norm: bool = Field(True, description="RMS-normalise queries and keys per head")

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "DiTConfig":
        if self.width % self.num_heads:
            raise ValueError(
                f"got width {self.width} and num_heads {self.num_heads}; expected a multiple of the heads"
            )
        return self


class Attention(nn.Module):
    """Multi-head attention of tokens to themselves, or to the caption of their segment."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.to_q = nn.Linear(config.width, config.width)
        self.to_kv = nn.Linear(config.width, 2 * config.width)
        self.out = nn.Linear(config.width, config.width)
        head_dim = config.width // config.num_heads
        self.norm_q, self.norm_k = (
            nn.RMSNorm(head_dim, eps=1e-6) if config.qk_norm else nn.Identity() for _ in range(2)
        )

    def forward(
        self,
        x: Tensor,
        context: Tensor,
        segments_q: Segments,
        segments_k: Segments,
        rotation: Rotation | None = None,
    ) -> Tensor:
        q = self.norm_q(self.to_q(x).unflatten(-1, (self.num_heads, -1)))  # (L, H, D_head)
        k, v = self.to_kv(context).unflatten(-1, (2, self.num_heads, -1)).unbind(1)  # 2 × (M, H, D_head)
        k = self.norm_k(k)  # (M, H, D_head)
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)  # (L, H, D_head)
        out = attention(q.to(v.dtype), k.to(v.dtype), v, segments_q, segments_k)  # (L, H, D_head)
        return self.out(out.flatten(1))  # (L, D)


class DiTBlock(nn.Module):
    """Self-attention, cross-attention to the caption, MLP; adaLN-Zero makes it the identity at initialisation."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        hidden = int(config.width * config.mlp_ratio)
        self.modulation = Modulation(config.width, 6)
        self.norm1, self.norm2, self.norm3 = (_layer_norm(config.width) for _ in range(3))
        self.self_attention = Attention(config)
        self.cross_attention = Attention(config)
        self.mlp = nn.Sequential(
            nn.Linear(config.width, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, config.width)
        )

    def forward(
        self,
        x: Tensor,
        conditions: Conditions,
        segments: Segments,
        group: Regrouping | None,
        rotation: Rotation | None,
    ) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(conditions)  # 6 × (L, D)
        h = modulate(self.norm1(x), shift1, scale1)  # (L, D)
        if group is None:
            h = self.self_attention(h, h, segments, segments, rotation)  # (L, D)
        else:
            h = group.apply(h)  # (L, D), regrouped
            h = group.undo(self.self_attention(h, h, group.segments, group.segments, rotation))  # (L, D)
        x = x + gate1 * h  # (L, D)
        x = x + self.cross_attention(self.norm2(x), conditions.text, segments, conditions.text_segments)  # (L, D)
        x = x + gate2 * self.mlp(modulate(self.norm3(x), shift2, scale2))  # (L, D)
        return x


class FinalLayer(nn.Module):
    """adaLN and a linear layer back to patches."""

    def __init__(self, width: int, patch_dim: int) -> None:
        super().__init__()
        self.norm = _layer_norm(width)
        self.modulation = Modulation(width, 2)
        self.linear = nn.Linear(width, patch_dim)

    def forward(self, x: Tensor, conditions: Conditions) -> Tensor:
        shift, scale = self.modulation(conditions)  # 2 × (L, D)
        return self.linear(modulate(self.norm(x), shift, scale))  # (L, P)


class DiT(nn.Module):
    """Noisy tokens of a pack to the objective's target.

    Args:
        config: shape of the model.
        channels: C of the latents.
        text_dim: features of a caption's token states.
    """

    def __init__(self, config: DiTConfig, *, channels: int, text_dim: int) -> None:
        super().__init__()
        self.config = config
        pt, ph, pw = config.patch
        patch_dim = channels * pt * ph * pw
        self.embed = nn.Linear(patch_dim, config.width)
        self.conditioner = Conditioner(text_dim, config.width, fps=config.condition_on_fps)
        self.rope = RotaryEmbedding(config.width // config.num_heads) if config.position == "rope" else None
        self.blocks = nn.ModuleList(DiTBlock(config) for _ in range(config.depth))
        self.final = FinalLayer(config.width, patch_dim)
        self.initialize_weights()

    def forward(self, x: Tensor, timesteps: Tensor, batch: PackedBatch) -> Tensor:
        """
        Args:
            x: (L, P) noisy tokens.
            timesteps: (S,) in [0, 1].
            batch: layout and conditions of the pack; its clean tokens, noise and timesteps are not read.

        Returns:
            (L, P).
        """
        groups = regroupings(self.config.pattern, batch)
        positions = self._positions(batch)  # (L, 3)
        x = self.embed(x)  # (L, D)
        if self.config.position == "sincos":
            x = x + sincos_embedding(positions, self.config.width).to(x.dtype)  # (L, D)
        rotations = [self._rotation(positions, group) for group in groups]
        conditions = self.conditioner(timesteps, batch)  # rows (S, D), text (M, D)
        for i, block in enumerate(self.blocks):
            group, rotation = groups[i % len(groups)], rotations[i % len(groups)]
            x = block(x, conditions, batch.segments, group, rotation)  # (L, D)
        return self.final(x, conditions)  # (L, P)

    def _positions(self, batch: PackedBatch) -> Tensor:
        positions = batch.positions.float()
        if self.config.reference_fps is None:
            return positions
        return frame_seconds(positions, batch.segments.gather(batch.fps), self.config.reference_fps)

    def _rotation(self, positions: Tensor, group: Regrouping | None) -> Rotation | None:
        if self.rope is None:
            return None
        return self.rope(positions if group is None else group.apply(positions))

    @torch.no_grad()
    def initialize_weights(self) -> None:
        """As DiT §3.2 and its code; what differs is marked, with the reason."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        # The caption's row starts as small as DiT's class embedding. Differs: the timestep's MLP keeps Xavier weights;
        # normal ones of std 0.02 vanish at widths below DiT's.
        nn.init.normal_(self.conditioner.caption.null, std=0.02)
        nn.init.normal_(self.conditioner.caption.pool.weight, std=0.02)
        for block in self.blocks:
            # adaLN-Zero: gates at zero make the block the identity.
            nn.init.zeros_(block.modulation.linear.weight)
            # New here: cross-attention has no gate, so its output starts at zero (PixArt-α §2.3).
            nn.init.zeros_(block.cross_attention.out.weight)
        # Zero output. Differs: DiT zeroes the last modulation too. A velocity has opposite signs at t = 0 and t = 1,
        # so that two zero factors wait for each other (80 steps of a small model: loss 1.82 instead of 1.88).
        nn.init.zeros_(self.final.linear.weight)


def _layer_norm(width: int) -> nn.LayerNorm:
    return nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
