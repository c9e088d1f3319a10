"""The 3-D U-Net of Video Diffusion Models (Ho et al. 2022, §3) on packs, with the options of Imagen Video (Ho et al.
2022, §2.3–2.4).

Convolutions and attention are over rows and columns of single frames, and a temporal layer after them is over frames:
attention with rotary positions, or a convolution. Images skip temporal layers, so that an image is what the image
network makes of it. Timestep, pooled caption, label, rate and numbers scale and shift group norms; caption tokens come
in by cross-attention in every block.

Departures: every block has a temporal layer, where Video Diffusion Models has one after each spatial attention; group
norms are over single frames, so that given ones are normalised apart and an image network's frames stay as they are;
only the way down's blocks are read again on the way up; sides need not be divisible.

Letters: L patches of the pack, N patches of a level (L at the first), S segments, R condition vectors, M caption
tokens, C channels, P features of a patch.
"""

from collections.abc import Callable
from typing import Literal, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.convert.adapt import silence_conditioner, with_classes, with_rates_of_images
from train.model.base import Denoiser, Losses, State
from train.model.conditioning import Conditioner, ConditioningEmbedder, Conditions, two_or_more
from train.model.config import ModelConfig
from train.model.flops import linear_flops
from train.model.position import Rotation, TemporalRotation
from train.model.segment_attention import workspace_bytes
from train.model.unet.activations import kept_bytes_per_token
from train.model.unet.blocks import Convolution, GroupNorm, UNetBlock
from train.model.unet.config import UNetConfig
from train.model.unet.pyramid import SMALL, Pyramid, copied_to_children, pyramid_of
from train.model.unet.taps import NUM_TAPS
from train.packing.batch import PackedBatch
from train.packing.patches import tie_copies


class UNet(Denoiser):
    """Noisy tokens of a pack to the objective's target.

    Args:
        config: shape of the model.
        channels: C of the latents.
        text_dim: features of a caption's token states.
        num_outputs: values predicted for each feature of a token (the objective's settings say how many).
    """

    config: UNetConfig

    def __init__(self, config: UNetConfig, *, channels: int, text_dim: int, num_outputs: int = 1) -> None:
        super().__init__()
        self.config, self.channels, self.text_dim, self.num_outputs = config, channels, text_dim, num_outputs
        pt, ph, pw = config.patch
        patch_dim = channels * pt * ph * pw
        self.embed = Convolution(patch_dim, config.width)
        self.embed_conditioning = ConditioningEmbedder(config, config.width, channels)
        self.conditioner = Conditioner(config, text_dim, config.condition_width, config.timestep_scale)
        self.rotation = TemporalRotation(config.head_width) if config.temporal == "attention" else None
        self.blocks = nn.ModuleList(UNetBlock(config, shape) for shape in config.block_shapes)
        self.final_norm = GroupNorm(config.widths[0], config.num_groups)
        self.final = Convolution(config.widths[0], patch_dim * num_outputs)
        self.initialize_weights()

    @overload
    def forward(self, x: Tensor, timesteps: Tensor, batch: PackedBatch, features_of: None = None) -> Tensor: ...
    @overload
    def forward(self, x: Tensor, timesteps: Tensor, batch: PackedBatch, features_of: int) -> tuple[Tensor, Tensor]: ...
    def forward(
        self, x: Tensor, timesteps: Tensor, batch: PackedBatch, features_of: int | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        pyramid = pyramid_of(batch, self.config)
        conditions = self._conditions(timesteps, batch, pyramid)
        rotations = {number: self._rotation(level.frames) for number, level in pyramid.levels.items()}
        first = pyramid.levels[0]
        conditioning = {name: pyramid.rows.apply(tokens) for name, tokens in batch.conditioning.items()}
        x = self.embed.within(pyramid.rows.apply(x), first)  # (N, C)
        x = self.embed_conditioning(x, conditioning)  # (N, C)
        skips, features = list[Tensor](), None
        for i, (block, shape) in enumerate(zip(self.blocks, self.config.block_shapes, strict=True)):
            skip = skips.pop() if shape.way == "up" else None  # (N, C)
            at = shape.level
            x = block(x, skip, conditions[at], pyramid.levels[at], rotations[at])  # (N, C)
            if shape.way == "down":
                skips.append(x)
            if i == features_of:
                features = pyramid.rows.undo(_at_patches(x, at, pyramid))  # (L, C)
        out = self.final.within(F.silu(self.final_norm(x, first.pictures)), first)  # (N, P)
        out = tie_copies(pyramid.rows.undo(out), batch.lone_frames, self.config.patch)  # (L, P)
        return out if features is None else (out, features)

    def _conditions(self, timesteps: Tensor, batch: PackedBatch, pyramid: Pyramid) -> dict[int, Conditions]:
        """What the blocks of each level read."""
        vectors, _, text = self.conditioner(timesteps, batch)  # (R, D), (M, D)
        reads = self.config.text == "cross_attention" and text is not None
        context = two_or_more(pyramid.text.apply(text)) if reads else None  # (M, D)
        return {
            number: Conditions(
                vectors=two_or_more(vectors),
                condition_ids=level.condition_ids,
                shared=None,
                context=context,
                context_segments=pyramid.text.segments if reads else None,
            )
            for number, level in pyramid.levels.items()
        }

    def _rotation(self, frames: Tensor) -> Rotation | None:
        return None if self.rotation is None else self.rotation(frames)

    def flops(self, batch: PackedBatch) -> int:
        pyramid = pyramid_of(batch, self.config)
        num_patches, num_vectors = batch.segments.num_tokens, len(batch.condition_segments)
        total = self.embed.flops(num_patches) + self.final.flops(num_patches)
        total += linear_flops(self.embed_conditioning, num_patches) + self.conditioner.flops(batch)
        for block, shape in zip(self.blocks, self.config.block_shapes, strict=True):
            total += block.flops(pyramid.levels[shape.level], pyramid.text.segments, num_vectors)
        return total

    def activation_bytes(
        self,
        num_tokens: int,
        dtype: torch.dtype,
        losses: Losses,
        checkpoint_every: int,
        freeze: Callable[[nn.Module], None] | None = None,
    ) -> int:
        return int(num_tokens * kept_bytes_per_token(self, self.config, losses, dtype, checkpoint_every, freeze))

    def workspace_bytes(self, num_tokens: int, dtype: torch.dtype) -> int:
        """Of attention, or of a convolution: its result once more, where unlike frames are joined to one row, or the
        neighbors of small ones."""
        flash, most = dtype.itemsize == 2, 2 * num_tokens * max(self.config.widths[:2]) * dtype.itemsize
        for shape in self.config.block_shapes:
            heads = max(1, shape.width // self.config.head_width)
            rows = max(1, num_tokens // 4**shape.level)
            around = NUM_TAPS * min(rows, SMALL * shape.width) * (shape.in_width + shape.skip_width) * dtype.itemsize
            most = max(most, around, workspace_bytes(rows, heads, self.config.head_width, flash=flash))
        return most

    def adapted(self, source: ModelConfig, state: State, tubelet: Literal["central", "uniform"]) -> State:
        features = state["embed.weight"].shape[1]
        theirs = len(state["final.bias"]) // features
        if theirs != self.num_outputs:
            raise ValueError(
                f"its model predicts {theirs} values per feature, the run's {self.num_outputs}; set train.objective "
                f"to a DDPM with learn_sigma={str(theirs == 2).lower()}, or leave train.init"
            )
        assert isinstance(source, UNetConfig)
        if self.config.temporal != "none" and source.temporal == "none":
            state = with_rates_of_images(state)
        return with_classes(state, self)

    def silence_additions(self, source: ModelConfig) -> None:
        """Temporal layers and cross-attention start at zero anyway."""
        silence_conditioner(self.conditioner)

    @torch.no_grad()
    def initialize_weights(self) -> None:
        """Xavier weights; what is added to the residual stream, and the output, start at zero (Ho et al. 2020)."""
        for module in self.modules():
            if isinstance(module, nn.Linear | Convolution):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, GroupNorm):
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        for name, parameter in self.named_parameters():
            if name.endswith((".null", ".pool.weight")):
                nn.init.normal_(parameter, std=0.02)
        for block in self.blocks:
            block.silence()
        self.embed_conditioning.zero()
        nn.init.zeros_(self.final.weight)


def _at_patches(x: Tensor, level: int, pyramid: Pyramid) -> Tensor:
    """Features of a level to the patches that they stand for: (N_level, C) to (N, C) of the first level."""
    for number in range(level - 1, -1, -1):
        x = copied_to_children(x, pyramid.levels[number])
    return x
