"""The diffusion transformer (DiT, Peebles & Xie 2023) on packed sequences (NaViT, Dehghani et al. 2023).

Departures from DiT: patches are (t, h, w); samples of any grid share a pack; attention may be factorised over space
and time (`mixer`); positions may be rotary or learned (`position`); queries and keys are normalised (`qk_norm`);
captions come in by cross-attention between self-attention and MLP (PixArt-α, Chen et al. 2023, §2.3), whose output
starts at zero, and, pooled, beside the timestep.

Letters: L patches of the pack, N tokens of the sequence (patches and in-context tokens), S segments, R condition
vectors, V condition tokens of a segment, M text tokens, D width, P = C·pt·ph·pw features of a patch.
"""

from collections.abc import Callable
from typing import Literal, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.convert.adapt import adapted, silence_additions, silence_second_mixer
from train.model.activations import bytes_per_token
from train.model.base import Denoiser, Losses, State
from train.model.blocks import DiTBlock, FinalLayer
from train.model.build_layout import layout_of
from train.model.conditioning import Conditioner, ConditioningEmbedder, ConditionLinear, Conditions, two_or_more
from train.model.config import ModelConfig
from train.model.dit_config import DiTConfig
from train.model.flops import linear_flops
from train.model.mixers.attention import Picture
from train.model.picture import PictureEmbedder
from train.model.position import (
    FourierEmbedding,
    LearnedEmbedding,
    RotaryEmbedding,
    SpannedRotaryEmbedding,
    TemporalRotation,
    frame_embedding,
    sincos_embedding,
    spread,
)
from train.model.segment_attention import workspace_bytes
from train.model.temporal import Time
from train.packing.batch import PackedBatch
from train.packing.layout import Layout
from train.packing.patches import tie_copies
from train.packing.shapes import SHOWN

__all__ = ["DiT", "DiTConfig"]


class DiT(Denoiser):
    """Noisy tokens of a pack to the objective's target.

    Args:
        config: shape of the model.
        channels: C of the latents.
        text_dim: features of a caption's token states.
        num_outputs: values predicted for each feature of a token (the objective's settings say how many).
    """

    config: DiTConfig

    def __init__(self, config: DiTConfig, *, channels: int, text_dim: int, num_outputs: int = 1) -> None:
        super().__init__()
        self.config, self.channels, self.text_dim, self.num_outputs = config, channels, text_dim, num_outputs
        pt, ph, pw = config.patch
        patch_dim = channels * pt * ph * pw
        self.embed = nn.Linear(patch_dim + config.shown_channels * pt * ph * pw, config.width)
        self.embed_conditioning = ConditioningEmbedder(config, config.width, channels)
        # Where conditions are no rows, what a given token is told in their stead.
        self.given = None if config.modulated else nn.Parameter(torch.empty(config.width))
        self.rope, self.positions = None, None
        if config.position == "rope":
            self.rope = _rotary(config)
        elif config.position == "fourier":
            self.positions = FourierEmbedding(config.max_grid, config.width)
        elif config.position not in ("sincos", "none"):
            kinds = {"fractional": config.position == "fractional", "product": config.position_product}
            self.positions = LearnedEmbedding(config.max_grid, config.width, **kinds)
        attends_over_time = "attention" in config.temporal_layers
        self.time_rotation = TemporalRotation(config.width // config.num_heads) if attends_over_time else None
        self.picture = None if config.picture is None else PictureEmbedder(config.picture, config.width)
        num_conditioners = config.depth if config.embedders_per_block else 1
        self.conditioners = nn.ModuleList(self._conditioner() for _ in range(num_conditioners))
        self.windows = [config.windows(i) for i in range(config.depth)]
        self.blocks = nn.ModuleList(DiTBlock(config, block) for block in range(config.depth))
        self.shared_modulation = None
        if config.adaln != "block":
            self.shared_modulation = ConditionLinear(config.width, self.blocks[0].modulation.num_chunks * config.width)
        self.final = FinalLayer(config, patch_dim * num_outputs)
        self.initialize_weights()

    @property
    def conditioner(self) -> nn.Module:
        """Embeds timestep, caption, label and numbers: for all blocks, or with embedders per block for the first."""
        return self.conditioners[0]

    def _conditioner(self) -> Conditioner:
        config = self.config
        published = config.timestep_frequencies == "diffusers"
        return Conditioner(
            config,
            self.text_dim,
            config.width,
            config.timestep_scale,
            includes_slowest=published,
            caption=config.caption,
            unit_px=None if config.condition_on_size is None else config.condition_on_size * config.patch[1],
        )

    @overload
    def forward(self, x: Tensor, timesteps: Tensor, batch: PackedBatch, features_of: None = None) -> Tensor: ...
    @overload
    def forward(self, x: Tensor, timesteps: Tensor, batch: PackedBatch, features_of: int) -> tuple[Tensor, Tensor]: ...
    def forward(
        self, x: Tensor, timesteps: Tensor, batch: PackedBatch, features_of: int | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        layout = layout_of(batch, self.config)
        # One per conditioner, (S, V, D), (M, D).
        conditions, condition_tokens, text = self._conditions(timesteps, batch, layout)
        x = self._embed(x, batch, layout)  # (L, D)
        x = self._add_context(x, condition_tokens, text, layout)  # (N, D)
        rotation = None if self.rope is None else self.rope(layout.coordinates, layout.sides)
        time = None if layout.time is None else Time.of(layout.time, self.time_rotation)
        features = None
        for i, (block, windows) in enumerate(zip(self.blocks, self.windows, strict=True)):
            layouts = [[layout.groups[window] for window in heads] for heads in windows]
            keys = layout.keys.get(windows[0][0])
            if self.config.frame_positions == "temporal" and i == self.config.first_temporal_block:
                x = x + frame_embedding(layout.coordinates, layout.sides, self.config.width).to(x.dtype)  # (N, D)
            x = block(x, conditions[i % len(conditions)], layout.readers, layouts, rotation, keys, time)  # (N, D)
            if i == features_of:
                features = layout.without_context(x)  # (L, D)
        out = layout.without_context(self.final(x, conditions[0]))  # (L, P)
        out = tie_copies(out, batch.lone_frames, self.config.patch)  # (L, P)
        return out if features is None else (out, features)

    def _conditions(
        self, timesteps: Tensor, batch: PackedBatch, layout: Layout
    ) -> tuple[list[Conditions], Tensor, Tensor | None]:
        """What each block reads; condition tokens (S, V, D) and caption tokens (M, D) for the sequence itself."""
        embedded = [conditioner(timesteps, batch) for conditioner in self.conditioners]
        picture = self._picture(batch, layout)
        all_conditions = []
        for conditioner, (condition_vectors, tokens, text) in zip(self.conditioners, embedded, strict=True):
            # (R, D), (S, V, D), (M, D)
            condition_vectors = two_or_more(condition_vectors)
            context = [tokens.flatten(0, 1)] if self.config.conditions_in_cross_attention else []
            context += [text] if self.config.text == "cross_attention" else []
            context += self._padding(conditioner, context, layout)
            conditions = Conditions(
                vectors=condition_vectors,
                condition_ids=layout.condition_ids,
                shared=None
                if self.shared_modulation is None
                else self.shared_modulation(F.silu(condition_vectors.float())),
                context=two_or_more(_merge(context, layout.context_order)) if context else None,
                context_segments=layout.read,
                neighbors=layout.neighbors,
                picture=picture,
            )
            all_conditions.append(conditions)
        _, tokens, text = embedded[0]
        return all_conditions, tokens, text

    def _picture(self, batch: PackedBatch, layout: Layout) -> Picture | None:
        """Raises ValueError: the pack has pictures, and the model reads none."""
        pictures = batch.pictures if layout.own_pictures is None else layout.own_pictures
        if self.picture is None:
            if pictures is not None:
                raise ValueError("the pack has states of pictures, and the model reads none; set train.model.picture")
            return None
        if pictures is None:
            if not self.training:
                return None
            num_segments = max(1, layout.readers.num_segments)  # a rank that shares a pack may have no token
            pictures = self.picture.absent(num_segments, batch.tokens.device)  # every weight has a gradient
        given = layout.readers.gather(pictures.given)[:, None]  # (N, 1)
        return Picture(tokens=two_or_more(self.picture(pictures)), segments=pictures.segments, given=given)

    def _padding(self, conditioner: nn.Module, context: list[Tensor], layout: Layout) -> list[Tensor]:
        """What fills the captions of the pack: copies of one token."""
        if self.config.text_padding is None or layout.context_segments is None:
            return []
        num_copies = layout.context_segments.num_tokens - sum(len(part) for part in context)
        return [conditioner.caption.padding().expand(num_copies, -1)]

    def _embed(self, x: Tensor, batch: PackedBatch, layout: Layout) -> Tensor:
        """Patches to tokens that know where they are: (L, P) to (L, D)."""
        others = dict(batch.conditioning)
        if num_shown := self.embed.in_features - x.shape[1]:
            shown = others.pop(SHOWN, x.new_zeros(len(x), num_shown))  # (L, C' · patch)
            x = torch.cat([x, shown.to(x.dtype)], dim=1)
        x = self.embed_conditioning(self.embed(x), others)  # (L, D)
        coordinates, sides = layout.without_context(layout.coordinates), layout.without_context(layout.sides)  # (L, 3)
        if self.config.position == "sincos":
            places = spread(coordinates, sides, self.config.sincos_extent)  # (L, 3)
            in_time = self.config.frame_positions == "input"
            x = x + sincos_embedding(places, self.config.width, in_time=in_time).to(x.dtype)  # (L, D)
        elif self.positions is not None:
            x = x + self.positions(coordinates, sides).to(x.dtype)  # (L, D)
        if self.given is not None:
            x = x + (~batch.loss_mask)[:, None] * self.given.to(x.dtype)  # (L, D)
        return x

    def _add_context(self, x: Tensor, condition_tokens: Tensor, text: Tensor | None, layout: Layout) -> Tensor:
        """The sequence, in which the in-context tokens of a segment precede its patches: (L, D) to (N, D)."""
        parts = [condition_tokens.flatten(0, 1).to(x.dtype)] if self.config.conditions_in_context else []
        parts += [text.to(x.dtype)] if self.config.text == "in_context" and text is not None else []
        return _merge([*parts, x], layout.order)

    def flops(self, batch: PackedBatch) -> int:
        layout = layout_of(batch, self.config)
        num_vectors, num_patches = len(batch.condition_segments), batch.segments.num_tokens
        total = linear_flops(self.embed, num_patches) + linear_flops(self.final.linear, layout.segments.num_tokens)
        total += linear_flops(self.embed_conditioning, num_patches) + linear_flops(self.shared_modulation, num_vectors)
        total += linear_flops(self.final.modulation, num_vectors)
        total += sum(conditioner.flops(batch) for conditioner in self.conditioners)
        pictures = None if batch.pictures is None else batch.pictures.segments
        if pictures is not None:
            total += linear_flops(self.picture, pictures.num_tokens)
        if self.config.text_padding is not None:
            total += sum(linear_flops(conditioner.caption.mlp, 1) for conditioner in self.conditioners)
        for block, windows in zip(self.blocks, self.windows, strict=True):
            layouts = [[layout.groups[window] for window in heads] for heads in windows]
            keys = layout.keys.get(windows[0][0])
            total += block.flops(layouts, layout.segments, layout.context_segments, keys, layout.time, num_vectors)
            if block.cross_attention is not None:
                total += block.cross_attention.picture_flops(layout.segments, pictures)
        return total

    def activation_bytes(
        self,
        num_tokens: int,
        dtype: torch.dtype,
        losses: Losses,
        checkpoint_every: int,
        freeze: Callable[[nn.Module], None] | None = None,
    ) -> int:
        """Measured on small models of the same kind: what is kept grows with tokens, width and blocks."""
        width = 2 * self.config.width // self.config.num_heads
        few, many = 4, 8  # blocks: patterns repeat after four

        def per_token(depth: int, prepare: Callable[[nn.Module], None] = lambda _: None) -> float:
            shape = {"width": width, "num_heads": 2, "depth": depth, "max_grid": (8, 8, 8)}
            shape["cross_attention_heads"] = None
            sizes = {"channels": self.channels, "text_dim": self.text_dim, "num_outputs": self.num_outputs}
            small = DiT(self.config.model_copy(update=shape), **sizes)
            prepare(small)
            return bytes_per_token(small, losses, dtype)

        with torch.random.fork_rng(devices=[]):
            at_few, at_many = per_token(few), per_token(many)
            block = (at_many - at_few) / (many - few)
            outside = at_few - few * block
            if freeze is not None:  # blocks are named by their numbers: here all of them are measured
                block = (per_token(self.config.depth, freeze) - outside) / self.config.depth
        num_checkpointed = -(-self.config.depth // checkpoint_every) if checkpoint_every else 0
        num_kept = self.config.depth - num_checkpointed + bool(num_checkpointed)  # one at a time is computed again
        inputs = num_checkpointed * width * dtype.itemsize
        return int(num_tokens * (num_kept * block + outside + inputs) * self.config.width / width)

    def workspace_bytes(self, num_tokens: int, dtype: torch.dtype) -> int:
        num_heads = self.config.num_heads
        head_dim = self.config.width // num_heads
        return workspace_bytes(num_tokens, num_heads, head_dim, flash=dtype.itemsize == 2)

    def adapted(self, source: ModelConfig, state: State, tubelet: Literal["central", "uniform"]) -> State:
        assert isinstance(source, DiTConfig)
        return adapted(self, self.config, source, state, tubelet)

    def silence_additions(self, source: ModelConfig) -> None:
        assert isinstance(source, DiTConfig)
        silence_additions(self)
        if len(self.windows[0]) > len(source.windows(0)) and self.config.conditioning != "adaln_zero":
            silence_second_mixer(self)

    @torch.no_grad()
    def initialize_weights(self) -> None:
        """As DiT §3.2 and its code; what differs is marked, with the reason."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        for name, parameter in self.named_parameters():
            # What stands for "nothing given" starts as small as DiT's class embedding. Differs: the timestep's MLP
            # keeps Xavier weights; normal ones of std 0.02 vanish at widths below DiT's.
            if name.endswith((".null", ".pool.weight")) or name == "given":
                nn.init.normal_(parameter, std=0.02)
        if self.config.conditioning == "adaln_zero":
            # Gates at zero make the block the identity.
            for modulation in [block.modulation for block in self.blocks]:
                modulation.zero()
            if self.shared_modulation is not None:
                nn.init.zeros_(self.shared_modulation.weight)
        if isinstance(self.positions, FourierEmbedding):
            self.positions.initialize()
        for block in self.blocks:
            for mixer in block.self_attentions:
                mixer.initialize()
            for layer in block.temporal.values():
                layer.initialize()
            if block.cross_attention is not None:
                # New here: cross-attention has no gate, so its output starts at zero (PixArt-α §2.3).
                nn.init.zeros_(block.cross_attention.out.weight)
        self.embed_conditioning.zero()
        # Zero output. Differs: DiT zeroes the last modulation too. A velocity has opposite signs at t = 0 and t = 1,
        # so that two zero factors wait for each other (80 steps of a small model: loss 1.82 instead of 1.88).
        nn.init.zeros_(self.final.linear.weight)


def _rotary(config: DiTConfig) -> nn.Module:
    if config.rope_span is not None:
        return SpannedRotaryEmbedding(config.width, config.num_heads, config.rope_span)
    head_dim = config.width // config.num_heads
    return RotaryEmbedding(head_dim, trained_grid=config.rope_grid, scaling=config.rope_scaling)


def _merge(parts: list[Tensor], order: Tensor | None) -> Tensor:
    """Tokens of several sources, (n_i, D), in one row, those of a segment side by side."""
    joined = torch.cat(parts) if len(parts) > 1 else parts[0]
    return joined if order is None else joined.index_select(0, order)
