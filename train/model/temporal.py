"""Layers along time between the layers of an image model, which becomes one of videos.

Temporal attention and convolution stand after the spatial ones and keep the image model's weights apart (Video LDM,
Blattmann et al. 2023, §3.1; Make-A-Video, Singer et al. 2022, §3.2: pseudo-3-D convolution and attention). Both begin
without effect, so that frames start as images, and images skip them: whatever they learn, a sample of one frame is
what the image model makes of it.

Departures: gates are per channel and from the block's conditions, by the rule of its other sublayers, where Video LDM
mixes by one learned number; positions of frames are rotary.

Letters: N tokens of the sequence, D width, H heads.
"""

from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from train.model.conditioning import Conditions
from train.model.dit_config import DiTConfig
from train.model.flops import linear_flops
from train.model.mixers.attention import SelfAttention
from train.model.mixers.attention_config import AttentionConfig
from train.model.modulation import Modulation, ModulationParameters, layer_norm
from train.model.position import Rotation, TemporalRotation
from train.packing.layout import TimeLayout

NUM_TAPS = 3
"""Frames that a convolution reads."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Time:
    """What the layers along time of all blocks read."""

    layout: TimeLayout
    rotation: Rotation | None  # of queries and keys, by the frame; None: no layer attends

    @classmethod
    def of(cls, layout: TimeLayout, rotation: TemporalRotation | None) -> Self:
        return cls(layout=layout, rotation=None if rotation is None else rotation(layout.frames))


class TemporalAttention(SelfAttention):
    """A patch sees those at its place in the other frames of its sample."""

    def over_time(self, x: Tensor, time: Time) -> Tensor:
        """(N, D) to (N, D)."""
        return self(x, [time.layout.window], time.rotation)

    def flops_over_time(self, layout: TimeLayout, num_tokens: int) -> int:
        return self.flops([layout.window], num_tokens)

    @property
    def last(self) -> nn.Linear:
        return self.out


class TemporalConvolution(nn.Module):
    """Convolution of 3 frames at one place, with zeros beyond the ends and for patches that were dropped.

    As one linear layer to 3 D features, whose thirds are for the frame after, the same one, and the frame before.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.taps = nn.Linear(width, NUM_TAPS * width, bias=False)

    def over_time(self, x: Tensor, time: Time) -> Tensor:
        """(N, D) to (N, D)."""
        return _Gathered.apply(self.taps(x).unflatten(-1, (NUM_TAPS, -1)), time.layout.neighbors)

    def flops_over_time(self, layout: TimeLayout, num_tokens: int) -> int:
        return linear_flops(self, num_tokens)

    def initialize(self) -> None:
        """Xavier weights of a convolution: each output reads 3 D features."""
        nn.init.xavier_uniform_(self.taps.weight)

    @property
    def last(self) -> nn.Linear:
        return self.taps


class TemporalLayer(nn.Module):
    """Norm, a mixer along time, and what is added to the tokens of videos: nothing before the first step."""

    def __init__(self, config: DiTConfig, mixer: TemporalAttention | TemporalConvolution) -> None:
        super().__init__()
        self.norm = layer_norm(config)
        self.modulation = Modulation(config, 1) if config.modulated else None
        self.mixer = mixer
        self.has_gate = config.conditioning == "adaln_zero"

    def forward(self, x: Tensor, conditions: Conditions, time: Time) -> Tensor:
        """(N, D) to (N, D)."""
        parameters = ModulationParameters()
        if self.modulation is not None:
            none = conditions.vectors.new_zeros(len(conditions.vectors), 1)  # what blocks share is of the image model
            (parameters,) = self.modulation(replace(conditions, shared=none))  # of vectors (R, D)
        change = self.mixer.over_time(parameters.modulate(self.norm(x)), time)  # (N, D)
        return parameters.added(x, change * time.layout.in_video)  # (N, D)

    def flops(self, layout: TimeLayout, num_tokens: int, num_vectors: int) -> int:
        """Matrix products of one forward pass."""
        return linear_flops(self.modulation, num_vectors) + self.mixer.flops_over_time(layout, num_tokens)

    @torch.no_grad()
    def initialize(self) -> None:
        """A gate of zero, or where there is none a last layer of zeros."""
        self.mixer.initialize()
        if self.modulation is not None:
            self.modulation.zero()
        if not self.has_gate:
            nn.init.zeros_(self.mixer.last.weight)


def temporal_layers(config: DiTConfig) -> nn.ModuleDict:
    """Those of a block, by name, in their order."""

    def mixer(name: str) -> TemporalAttention | TemporalConvolution:
        if name == "convolution":
            return TemporalConvolution(config.width)
        kernel = config.mixer.kernel if isinstance(config.mixer, AttentionConfig) else "auto"
        return TemporalAttention(width=config.width, num_heads=config.num_heads, qk_norm=config.qk_norm, kernel=kernel)

    return nn.ModuleDict({name: TemporalLayer(config, mixer(name)) for name in config.temporal_layers})


class _Gathered(torch.autograd.Function):
    """(N, 3, D) to (N, D): of each token the sum of its neighbors' features for it."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, neighbors: Tensor) -> Tensor:
        ctx.save_for_backward(neighbors)
        rows = torch.cat([features, features.new_zeros(1, *features.shape[1:])])  # (N + 1, 3, D)
        return sum(rows[:, tap].index_select(0, at) for tap, at in enumerate(neighbors.unbind(1)))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (neighbors,) = ctx.saved_tensors
        rows = torch.cat([grad, grad.new_zeros(1, grad.shape[1])])  # (N + 1, D)
        # A patch is the neighbor after that which is its neighbor before.
        return torch.stack([rows.index_select(0, at) for at in neighbors.flip(1).unbind(1)], dim=1), None
