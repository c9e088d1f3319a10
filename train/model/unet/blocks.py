"""The space-time separable block of a U-Net, on rows of patches.

Letters: N patches of a level, C channels, R condition vectors, M caption tokens.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.model.conditioning import ConditionLinear, Conditions
from train.model.flops import linear_flops
from train.model.mixers.attention import CrossAttention, SelfAttention
from train.model.modulation import ModulationParameters
from train.model.position import Rotation
from train.model.unet.boxes import Boxes, box_convolution, box_norm
from train.model.unet.config import BlockShape, UNetConfig
from train.model.unet.pyramid import Level, copied_to_children
from train.model.unet.taps import gathered_convolution
from train.packing.segments import Segments


class Convolution(nn.Module):
    """Zero-padded convolution of boxes, under autocast in its type. `kernel`: odd rows and columns."""

    def __init__(self, in_width: int, width: int, kernel: tuple[int, int] = (3, 3), stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        weight = torch.empty(width, in_width, *kernel, memory_format=torch.channels_last)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.empty(width))

    def within(self, x: Tensor, level: Level) -> Tensor:
        """Of the pictures of a level: (N, C) to (N, C')."""
        if level.taps is None:
            return self(x, level.pictures)
        return gathered_convolution(*self._cast(x), level.taps)

    def forward(self, x: Tensor, boxes: Boxes, num_out: int | None = None) -> Tensor:
        """(N, C) to (N', C'); `num_out`: N' where the stride is not 1."""
        return box_convolution(*self._cast(x), boxes.sizes, len(x) if num_out is None else num_out, self.stride)

    def _cast(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else self.weight.dtype
        return x.to(dtype), self.weight.to(dtype), self.bias.to(dtype)

    def flops(self, num_out: int) -> int:
        return 2 * num_out * self.weight.numel()


class GroupNorm(nn.Module):
    """Group norm of each frame, with a scale and a shift of each channel."""

    def __init__(self, width: int, num_groups: int) -> None:
        super().__init__()
        self.num_groups = num_groups
        self.weight, self.bias = nn.Parameter(torch.empty(width)), nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor, pictures: Boxes) -> Tensor:
        """(N, C) to (N, C)."""
        affine = self.weight.to(x.dtype), self.bias.to(x.dtype)
        return box_norm(x, *affine, pictures.sizes, pictures.num_boxes, self.num_groups)[0]


class ResidualBlock(nn.Module):
    """Two convolutions; the condition vector scales and shifts what the second reads (adaptive group norm, Dhariwal &
    Nichol 2021, §3)."""

    def __init__(self, in_width: int, width: int, config: UNetConfig) -> None:
        super().__init__()
        self.num_groups = config.num_groups
        self.norm = GroupNorm(in_width, config.num_groups)
        self.first = Convolution(in_width, width)
        self.modulation = ConditionLinear(config.condition_width, 2 * width)
        self.second = Convolution(width, width)
        self.shortcut = nn.Linear(in_width, width) if in_width != width else nn.Identity()

    def forward(self, x: Tensor, conditions: Conditions, level: Level) -> Tensor:
        """(N, C) to (N, C')."""
        h = self.first.within(F.silu(self.norm(x, level.pictures)), level)  # (N, C')
        shift, scale = self.modulation(F.silu(conditions.vectors.float())).chunk(2, dim=-1)  # 2 × (R, C')
        modulation = ModulationParameters(shift=shift, scale=scale, condition_ids=conditions.condition_ids)
        pictures = level.pictures
        h, _, _ = box_norm(h, None, None, pictures.sizes, pictures.num_boxes, self.num_groups)  # (N, C')
        h = modulation.modulate(h)  # (N, C')
        return self.shortcut(x) + self.second.within(F.silu(h), level)  # (N, C')

    def flops(self, num_rows: int, num_vectors: int) -> int:
        of_linear = linear_flops(self.modulation, num_vectors) + linear_flops(self.shortcut, num_rows)
        return of_linear + self.first.flops(num_rows) + self.second.flops(num_rows)


class UNetBlock(nn.Module):
    """Change of level, residual block, attention within frames, attention to the caption, temporal layer.

    Frames share all weights, and only the temporal layer lets them see each other. What comes after the residual
    block's first convolution starts at zero, and so does each further part: the block begins as its shortcut.
    """

    def __init__(self, config: UNetConfig, shape: BlockShape) -> None:
        super().__init__()
        width, num_heads = shape.width, max(1, shape.width // config.head_width)
        self.changes_to = shape.way if shape.changes_level else None
        stride = 2 if shape.way == "down" else 1
        self.change = Convolution(shape.in_width, shape.in_width, stride=stride) if shape.changes_level else None
        self.residual = ResidualBlock(shape.in_width + shape.skip_width, width, config)
        attends, reads = shape.level in config.attention_levels, config.text == "cross_attention"
        self.spatial_norm = GroupNorm(width, config.num_groups) if attends else None
        self.spatial = SelfAttention(width=width, num_heads=num_heads, qk_norm=True) if attends else None
        self.cross_norm = GroupNorm(width, config.num_groups) if reads else None
        self.cross = None
        if reads:
            of_text = config.condition_width
            self.cross = CrossAttention(width=width, num_heads=num_heads, qk_norm=True, context_width=of_text)
        self.temporal_norm = GroupNorm(width, config.num_groups) if config.temporal != "none" else None
        self.temporal: SelfAttention | Convolution | None = None
        if config.temporal == "attention":
            self.temporal = SelfAttention(width=width, num_heads=num_heads, qk_norm=True)
        elif config.temporal == "convolution":
            self.temporal = Convolution(width, width, kernel=(3, 1))

    def forward(
        self,
        x: Tensor,
        skip: Tensor | None,
        conditions: Conditions,
        level: Level,
        rotation: Rotation | None,
    ) -> Tensor:
        """(N_before, C) and, on the way up, (N, C') of the way down, to (N, C')."""
        x = self._at_level(x, level)  # (N, C)
        x = self.residual(x if skip is None else torch.cat([x, skip.to(x.dtype)], dim=1), conditions, level)  # (N, C')
        if self.spatial is not None and self.spatial_norm is not None:
            x = x + self.spatial(self.spatial_norm(x, level.pictures), [level.spatial], None)  # (N, C')
        if self.cross is not None and self.cross_norm is not None:
            h = self.cross_norm(x, level.pictures)  # (N, C')
            x = x + self.cross(h, conditions.context, level.segments, conditions.context_segments)  # (N, C')
        if self.temporal is not None and self.temporal_norm is not None:
            x = x + level.is_video * self._over_time(self.temporal_norm(x, level.pictures), level, rotation)  # (N, C')
        return x

    def _at_level(self, x: Tensor, level: Level) -> Tensor:
        """From the level before to this one: (N_before, C) to (N, C)."""
        if self.change is None:
            return x
        if self.changes_to == "up":
            return self.change.within(copied_to_children(x, level), level)
        return self.change(x, level.finer, level.segments.num_tokens)

    def _over_time(self, h: Tensor, level: Level, rotation: Rotation | None) -> Tensor:
        if isinstance(self.temporal, Convolution):
            return self.temporal(F.silu(h), level.films)
        assert self.temporal is not None
        return self.temporal(h, [level.temporal], rotation)

    def flops(self, level: Level, text: Segments, num_vectors: int) -> int:
        """Matrix products of one forward pass."""
        num_rows = level.segments.num_tokens
        total = self.residual.flops(num_rows, num_vectors)
        total += 0 if self.change is None else self.change.flops(num_rows)
        total += 0 if self.spatial is None else self.spatial.flops([level.spatial], num_rows)
        total += 0 if self.cross is None else self.cross.flops(level.segments, text)
        if isinstance(self.temporal, Convolution):
            return total + self.temporal.flops(num_rows)
        return total + (0 if self.temporal is None else self.temporal.flops([level.temporal], num_rows))

    @torch.no_grad()
    def silence(self) -> None:
        """Every part that is added starts at zero."""
        last = [self.residual.second, *(part.out for part in (self.spatial, self.cross) if part is not None)]
        if self.temporal is not None:
            last.append(self.temporal if isinstance(self.temporal, Convolution) else self.temporal.out)
        for layer in last:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
