"""The packed layout: latents of any length, height and width in one row of tokens (NaViT, Dehghani et al. 2023, §2).

Letters in shape comments: L tokens of a pack, S segments (samples) of it, M text tokens, D features.
A token never sees another segment: attention, conditions, positions, noise and loss are all per segment, so that a
pack computes what its samples would compute alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor

Patch: TypeAlias = tuple[int, int, int]
"""Size of a patch in latent frames, rows and columns."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Segments:
    """Consecutive runs of tokens. `lengths` are Python integers: kernels want the longest without a device sync."""

    cu_seqlens: Tensor  # (S + 1,) int32: segment i is tokens [cu_seqlens[i], cu_seqlens[i + 1])
    segment_ids: Tensor  # (L,) int64: the segment of each token
    lengths: tuple[int, ...]  # S

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device | str = "cpu") -> "Segments":
        """Segments of the given lengths, in order.

        Raises:
            ValueError: no segment, or one without tokens: variable-length kernels fail on those.
        """
        if not lengths or min(lengths) < 1:
            raise ValueError(f"got segment lengths {tuple(lengths)}; expected at least one segment, each with tokens")
        counts = torch.tensor(lengths)
        cu_seqlens = torch.zeros(len(lengths) + 1, dtype=torch.int32)
        cu_seqlens[1:] = counts.cumsum(0)
        ids = torch.repeat_interleave(torch.arange(len(lengths)), counts)
        return cls(cu_seqlens=cu_seqlens.to(device), segment_ids=ids.to(device), lengths=tuple(lengths))

    @property
    def num_segments(self) -> int:
        return len(self.lengths)

    @property
    def num_tokens(self) -> int:
        return sum(self.lengths)

    @property
    def max_seqlen(self) -> int:
        return max(self.lengths)

    def gather(self, rows: Tensor) -> Tensor:
        """One row per segment, (S, ...), to one row per token, (L, ...)."""
        return rows.index_select(0, self.segment_ids)

    def sum(self, tokens: Tensor) -> Tensor:
        """Sum over each segment: (L, ...) to (S, ...)."""
        return tokens.new_zeros(self.num_segments, *tokens.shape[1:]).index_add(0, self.segment_ids, tokens)

    def mean(self, tokens: Tensor) -> Tensor:
        """Mean over each segment: (L, D) to (S, D) float32."""
        return self.sum(tokens.float()) / self.cu_seqlens.diff()[:, None]

    def to(self, device: torch.device | str) -> "Segments":
        return _to_device(self, device)


@dataclass(frozen=True, kw_only=True, slots=True)
class Regrouping:
    """The same tokens in another order, cut into other segments: how one attention serves every pattern.

    Token i of the regrouped pack is token `order[i]` of the pack.
    """

    order: Tensor  # (L,) int64, a permutation
    inverse: Tensor  # (L,) int64
    segments: Segments

    @classmethod
    def of(cls, order: Tensor, lengths: Sequence[int]) -> "Regrouping":
        return cls(order=order, inverse=order.argsort(), segments=Segments.of(lengths))

    def apply(self, tokens: Tensor) -> Tensor:
        return tokens.index_select(0, self.order)

    def undo(self, tokens: Tensor) -> Tensor:
        return tokens.index_select(0, self.inverse)

    def to(self, device: torch.device | str) -> "Regrouping":
        return _to_device(self, device)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One latent with everything that is its own: noise, time, rate and caption."""

    clip_id: str
    latent: Tensor  # (C, T, H, W) float, about unit std
    noise: Tensor  # (C, T, H, W) float, standard normal
    timestep: float  # in [0, 1]: 0 is data, 1 is noise
    fps: float  # frames per second of the clip; 0 for an image
    text: Tensor | None  # (n, D_text) float token states; None: the null caption


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedBatch:
    """A pack, ready for the model. A segment without a caption has one row of zeros as `text`, `has_caption` False."""

    clip_ids: tuple[str, ...]  # S
    segments: Segments  # over L
    tokens: Tensor  # (L, C * pt * ph * pw) float32, the clean latents
    noise: Tensor  # (L, C * pt * ph * pw) float32
    timesteps: Tensor  # (S,) float32
    positions: Tensor  # (L, 3) int64: frame, row and column of each token in its own grid of patches
    grid_sizes: tuple[Patch, ...]  # S: number of patches along (t, h, w)
    fps: Tensor  # (S,) float32
    text: Tensor  # (M, D_text) float32
    text_segments: Segments  # over M
    has_caption: Tensor  # (S,) bool

    def to(self, device: torch.device | str) -> "PackedBatch":
        return _to_device(self, device)


def grid_size(shape: Sequence[int], patch: Patch) -> Patch:
    """Number of patches along (t, h, w) of a latent of shape (..., T, H, W).

    Raises:
        ValueError: a side is no multiple of the patch.
    """
    sides = tuple(shape)[-3:]
    if any(side < 1 or side % size for side, size in zip(sides, patch, strict=True)):
        raise ValueError(f"got a latent of (T, H, W) = {sides}; expected multiples of the patch {tuple(patch)}")
    t, h, w = (side // size for side, size in zip(sides, patch, strict=True))
    return t, h, w


def patchify(latent: Tensor, patch: Patch) -> Tensor:
    """(C, T, H, W) to (t * h * w, C * pt * ph * pw).

    Tokens run frame by frame, row by row. Features run (C, pt, ph, pw), the order of a flattened `Conv3d` weight, so a
    linear layer on tokens is the strided convolution of DiT's and ViViT's embedding with the same weights.
    """
    t, h, w = grid_size(latent.shape, patch)
    pt, ph, pw = patch
    x = latent.reshape(-1, t, pt, h, ph, w, pw)  # (C, t, pt, h, ph, w, pw)
    return x.permute(1, 3, 5, 0, 2, 4, 6).reshape(t * h * w, -1)  # (t h w, C pt ph pw)


def unpatchify(tokens: Tensor, grid: Patch, patch: Patch) -> Tensor:
    """The inverse of `patchify`: (t * h * w, C * pt * ph * pw) to (C, T, H, W)."""
    (t, h, w), (pt, ph, pw) = grid, patch
    x = tokens.reshape(t, h, w, -1, pt, ph, pw).permute(3, 0, 4, 1, 5, 2, 6)  # (C, t, pt, h, ph, w, pw)
    return x.reshape(-1, t * pt, h * ph, w * pw)


def grid_positions(grid: Patch) -> Tensor:
    """(t * h * w, 3) int64: frame, row and column of each token, in the order of `patchify`."""
    return torch.cartesian_prod(*(torch.arange(n) for n in grid)).reshape(-1, 3)


def pack(samples: Sequence[Sample], patch: Patch, text_dim: int) -> PackedBatch:
    """Lay samples end to end."""
    tokens = [patchify(sample.latent.float(), patch) for sample in samples]
    grids = tuple(grid_size(sample.latent.shape, patch) for sample in samples)
    texts = [torch.zeros(1, text_dim) if sample.text is None else sample.text.float() for sample in samples]
    return PackedBatch(
        clip_ids=tuple(sample.clip_id for sample in samples),
        segments=Segments.of([len(x) for x in tokens]),
        tokens=torch.cat(tokens),
        noise=torch.cat([patchify(sample.noise.float(), patch) for sample in samples]),
        timesteps=torch.tensor([sample.timestep for sample in samples], dtype=torch.float32),
        positions=torch.cat([grid_positions(grid) for grid in grids]),
        grid_sizes=grids,
        fps=torch.tensor([sample.fps for sample in samples], dtype=torch.float32),
        text=torch.cat(texts),
        text_segments=Segments.of([len(text) for text in texts]),
        has_caption=torch.tensor([sample.text is not None for sample in samples]),
    )


def unpack(tokens: Tensor, batch: PackedBatch, patch: Patch) -> list[Tensor]:
    """Tokens of a pack, (L, C * pt * ph * pw), to one latent (C, T, H, W) per segment."""
    parts = tokens.split(batch.segments.lengths)
    return [unpatchify(part, grid, patch) for part, grid in zip(parts, batch.grid_sizes, strict=True)]


Packed = TypeVar("Packed", Segments, Regrouping, PackedBatch)


def _to_device(value: Packed, device: torch.device | str) -> Packed:
    moved: dict[str, Any] = {}
    for field in fields(value):
        part = getattr(value, field.name)
        if isinstance(part, Segments):
            moved[field.name] = part.to(device)
        elif isinstance(part, Tensor):
            moved[field.name] = part.to(device, non_blocking=True)  # without pinned memory this blocks by itself
    return replace(value, **moved)
