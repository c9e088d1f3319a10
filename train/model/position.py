"""Where a token is: three axes (frame, row, column), restarted in every segment.

`RotaryEmbedding` rotates queries and keys (RoFormer, Su et al. 2021), one share of the head's width per axis as in the
video models of 2024 on. `sincos_embedding` adds DiT's fixed table (Peebles & Xie 2023) and, from the second frame on,
the frame's. `LearnedEmbedding` adds NaViT's learned tables (Dehghani et al. 2023, §2), one per axis, read at absolute
or at fractional coordinates.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from train.packing.shapes import Patch

NUM_AXES = 3
FOURIER_TURNS = 8.0
"""Deviation, at the start, of the turns that a learned frequency makes over `max_grid`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rotation:
    """Angles of a pack. (No tuple: what shards a model casts the tensors that it finds among a block's inputs.)"""

    cos: Tensor  # (L, 1 or H, D_head / 2) float32
    sin: Tensor  # (L, 1 or H, D_head / 2) float32

    def apply(self, x: Tensor) -> Tensor:
        """Rotate each pair (x[i], x[i + D_head / 2]) of (L, H, D_head) by its angle, in float32."""
        a, b = x.float().chunk(2, dim=-1)  # 2 × (L, H, D_head / 2)
        return torch.cat([a * self.cos - b * self.sin, b * self.cos + a * self.sin], dim=-1).to(x.dtype)


class RotaryEmbedding(nn.Module):
    """Axial 3-D RoPE: rows and columns rotate a third of the head's pairs each, frames the rest.

    A sample whose grid is s times `trained_grid` along an axis is scaled on this axis: by "interpolation" all its
    angles shrink by s (Chen et al. 2023, §2.3); by "ntk" frequency i of n shrinks by s^(i / (n - 1)), so that the
    slowest spans the longer side and the fastest still tells neighbours apart (NTK-aware scaling, bloc97 2023).
    """

    def __init__(
        self,
        head_dim: int,
        base: float = 10_000.0,
        trained_grid: Patch | None = None,
        scaling: Literal["interpolation", "ntk"] = "ntk",
    ) -> None:
        super().__init__()
        if head_dim % 2 or head_dim < 2 * NUM_AXES:
            raise ValueError(f"got head width {head_dim}; expected an even number of at least {2 * NUM_AXES}")
        pairs = head_dim // 2
        shares = (pairs - 2 * (pairs // NUM_AXES), pairs // NUM_AXES, pairs // NUM_AXES)
        frequencies = torch.cat([base ** (-torch.arange(n) / n) for n in shares])  # (D_head / 2,)
        axes = torch.cat([torch.full((n,), axis) for axis, n in enumerate(shares)])
        slowness = torch.cat([torch.arange(n) / max(1, n - 1) for n in shares])  # (D_head / 2,): 0 fastest, 1 slowest
        self.register_buffer("frequencies", frequencies.float(), persistent=False)
        self.register_buffer("axes", axes, persistent=False)
        # A buffer: made in every pack, it would wait for the device.
        trained = None if trained_grid is None else torch.tensor(trained_grid, dtype=torch.float32)  # (3,)
        self.register_buffer("trained_sides", trained, persistent=False)
        self.register_buffer("exponents", torch.ones(pairs) if scaling == "interpolation" else slowness, False)

    def forward(self, positions: Tensor, sides: Tensor | None = None) -> Rotation:
        """Positions in grids of `sides`, both (L, 3), to the rotation of each pair."""
        angles = positions.float()[:, self.axes] * self.frequencies  # (L, D_head / 2)
        if self.trained_sides is not None and sides is not None:
            longer = (sides.float() / self.trained_sides).clamp(min=1)  # (L, 3)
            angles = angles / longer[:, self.axes] ** self.exponents
        return Rotation(cos=angles.cos()[:, None], sin=angles.sin()[:, None])


class SpannedRotaryEmbedding(nn.Module):
    """3-D RoPE over all heads at once (LTX-Video, HaCohen et al. 2024, and its code): positions within a span become
    -1 to 1, and pairs of a token's features rotate, axis by axis in turn, at frequencies that rise from π / 2 to
    `base` · π / 2. Pairs that three axes do not share come first, and do not rotate.

    Args:
        width: D.
        num_heads: H.
        span: of frames, rows and columns.
        base: highest over lowest frequency.
    """

    def __init__(self, width: int, num_heads: int, span: tuple[float, float, float], base: float = 10_000.0) -> None:
        super().__init__()
        num_frequencies, self.num_heads = width // (2 * NUM_AXES), num_heads
        self.num_still = width // 2 - NUM_AXES * num_frequencies
        # In float32 and in this order, as there: a last bit of a frequency is seen in the output.
        frequencies = base ** torch.linspace(0, 1, num_frequencies) * math.pi / 2
        self.register_buffer("frequencies", frequencies[:, None], persistent=False)  # (n, 1)
        self.register_buffer("span", torch.tensor(span), persistent=False)  # (3,)

    def forward(self, positions: Tensor, sides: Tensor | None = None) -> Rotation:
        """Positions, (L, 3), to the rotation of each pair of each head; `sides` are not read."""
        angles = self.frequencies * (positions.float() / self.span * 2 - 1)[:, None]  # (L, n, 3)
        angles = nn.functional.pad(angles.flatten(1), (self.num_still, 0))  # (L, D / 2)
        angles = angles.unflatten(1, (self.num_heads, -1))  # (L, H, D_head / 2)
        return Rotation(cos=angles.cos(), sin=angles.sin())


class TemporalRotation(nn.Module):
    """RoPE along time alone: all pairs of the head are the frame's."""

    def __init__(self, head_dim: int, base: float = 10_000.0) -> None:
        super().__init__()
        pairs = head_dim // 2
        self.register_buffer("frequencies", base ** (-torch.arange(pairs) / pairs), persistent=False)

    def forward(self, frames: Tensor) -> Rotation:
        """(L,) numbers of frames."""
        angles = frames.float()[:, None] * self.frequencies  # (L, D_head / 2)
        return Rotation(cos=angles.cos()[:, None], sin=angles.sin()[:, None])


def sincos_embedding(positions: Tensor, width: int, base: float = 10_000.0, *, in_time: bool = True) -> Tensor:
    """(L, 3) positions to (L, width) float32: column and row in half the width each, as DiT's code has it, plus, with
    `in_time`, the frame in all of it, less frame 0's, so that an image has exactly the table of DiT."""
    frames, rows, columns = positions.float().unbind(1)  # 3 × (L,)
    space = torch.cat([_sincos(columns, width // 2, base), _sincos(rows, width // 2, base)], dim=-1)  # (L, D)
    if not in_time:
        return space
    time = _sincos(frames, width, base) - _sincos(torch.zeros_like(frames), width, base)  # (L, D)
    return space + time


def frame_embedding(positions: Tensor, sides: Tensor, width: int, base: float = 10_000.0) -> Tensor:
    """(L, 3) positions in grids of `sides` to the table of frames, (L, width) float32; 0 in images (Latte's code)."""
    return _sincos(positions[:, 0], width, base) * (sides[:, :1] > 1)


def spread(positions: Tensor, sides: Tensor, extent: float | None) -> Tensor:
    """(L, 3) positions whose rows and columns span `extent` units, whatever their sides, (L, 3); None: as they are."""
    if extent is None:
        return positions
    return torch.cat([positions[:, :1], positions[:, 1:] * (extent / sides[:, 1:])], dim=1)


def _sincos(positions: Tensor, width: int, base: float) -> Tensor:
    n = width // 2
    frequencies = base ** -(torch.arange(n, device=positions.device, dtype=torch.float64) / n)
    angles = positions.double()[:, None] * frequencies  # (L, n)
    return torch.cat([angles.sin(), angles.cos()], dim=-1).float()  # (L, width)


class LearnedEmbedding(nn.Module):
    """One learned table per axis, read at real coordinates by linear interpolation, and summed; or multiplied, each
    plus 1, so that tables near 0 tell little at the start."""

    def __init__(self, max_grid: Patch, width: int, *, fractional: bool, product: bool = False) -> None:
        super().__init__()
        self.fractional, self.product = fractional, product
        self.tables = nn.ModuleList(nn.Embedding(n, width) for n in max_grid)

    def forward(self, positions: Tensor, sides: Tensor) -> Tensor:
        """(L, 3) float positions in grids of `sides`, (L, 3), to (L, D)."""
        rows = []
        for axis, table in enumerate(self.tables):
            last = table.num_embeddings - 1
            position = positions[:, axis]
            if self.fractional:
                position = position / sides[:, axis] * last  # a fraction of the table as of the side
            low = position.floor().long().clamp(max=last)  # (L,)
            share = (position - low)[:, None]  # (L, 1)
            rows.append(torch.lerp(table(low), table((low + 1).clamp(max=last)), share))
        stacked = torch.stack(rows)  # (3, L, D)
        return (1 + stacked).prod(0) - 1 if self.product else stacked.sum(0)  # (L, D)


class FourierEmbedding(nn.Module):
    """Learned Fourier features (Li et al. 2021; NaViT, Dehghani et al. 2023, §3.4): sines and cosines of learned
    combinations of the three coordinates, then a linear layer. Coordinates are in units of `max_grid`, and may exceed
    it."""

    def __init__(self, max_grid: Patch, width: int) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(torch.empty(NUM_AXES, width // 2))
        self.out = nn.Linear(2 * (width // 2), width)
        self.register_buffer("unit", torch.tensor(max_grid, dtype=torch.float32), persistent=False)

    @torch.no_grad()
    def initialize(self) -> None:
        nn.init.normal_(self.frequencies, std=2 * math.pi * FOURIER_TURNS)

    def forward(self, positions: Tensor, sides: Tensor) -> Tensor:
        """(L, 3) float positions to (L, D); `sides` are not read."""
        angles = (positions.float() / self.unit) @ self.frequencies.float()  # (L, D / 2)
        return self.out(torch.cat([angles.sin(), angles.cos()], dim=-1))  # (L, D)


def frame_rates(fps: Tensor, reference_fps: float | None) -> Tensor:
    """Units of 1 / `reference_fps` s per step of `fps` steps in a second, (S,): 1 for images (fps 0) and without one.

    A step is one patch along time: of several frames of a latent, each of which stands for several of the clip.
    """
    if reference_fps is None:
        return torch.ones_like(fps)
    return torch.where(fps > 0, reference_fps / fps.clamp(min=1e-6), 1.0)


def lagging(coordinates: Tensor, lag: float) -> Tensor:
    """(L, 3) positions whose frames, except frame 0, lie `lag` earlier, (L, 3)."""
    return torch.cat([(coordinates[:, :1] - lag).clamp(min=0), coordinates[:, 1:]], dim=1) if lag else coordinates


def scale_frames(coordinates: Tensor, rates: Tensor) -> Tensor:
    """(L, 3) positions or sides, their frames measured in units of real time: times (L,) `rates`."""
    return torch.cat([coordinates[:, :1] * rates[:, None], coordinates[:, 1:]], dim=1)
