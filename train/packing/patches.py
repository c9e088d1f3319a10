"""Latents as patches: space-time blocks of a latent, each the features of one token.

A patch of several frames is ViViT's tubelet (Arnab et al. 2021, §3.2). An image has one frame, and a causal video
autoencoder gives 1 + n frames, the first coded alone. So when one frame is left over, it is the first, repeated to
fill a tubelet of its own: an image is a video's first frame, and with either of ViViT's initialisations the tubelet
embedding of an image is the image model's. What the model says of the copies is averaged.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from train.packing.shapes import Patch


def grid_size(shape: Sequence[int], patch: Patch) -> Patch:
    """Number of patches along (t, h, w) of a latent of shape (..., T, H, W).

    Raises:
        ValueError: a side is no multiple of the patch. One frame more than a multiple is taken.
    """
    sides = tuple(shape)[-3:]
    if fitting_size(sides, patch) != sides or min(sides) < 1:
        raise ValueError(f"got a latent of (T, H, W) = {sides}; expected multiples of the patch {tuple(patch)}")
    t, h, w = (-(-side // size) for side, size in zip(sides, patch, strict=True))
    return t, h, w


def fitting_size(sides: Sequence[int], patch: Patch) -> Patch:
    """The largest (T, H, W) within `sides` that patches fill; a side of 0 where there is none."""
    (frames, rows, columns), (pt, ph, pw) = sides, patch
    rest = frames % pt
    return frames - max(0, rest - 1), rows // ph * ph, columns // pw * pw


def first_frame_is_alone(num_frames: int, patch: Patch) -> bool:
    """The first of `num_frames` latent frames fills a tubelet alone."""
    return num_frames % patch[0] == 1


_WIDE = {2: torch.int16, 4: torch.int32, 8: torch.int64, 16: torch.complex128}
"""Types by their bytes: the features of a row of a patch are contiguous, and are moved as one number."""


def patchify(latent: Tensor, patch: Patch) -> Tensor:
    """(C, T, H, W) to (t * h * w, C * pt * ph * pw).

    Tokens run frame by frame, row by row. Features run (C, pt, ph, pw), the order of a flattened `Conv3d` weight, so a
    linear layer on tokens is the strided convolution of DiT's and ViViT's embedding with the same weights.
    """
    t, h, w = grid_size(latent.shape, patch)
    pt, ph, pw = patch
    if first_frame_is_alone(latent.shape[1], patch):
        latent = torch.cat([latent[:, :1].expand(-1, pt - 1, -1, -1), latent], dim=1)
    wide = _WIDE.get(pw * latent.element_size())
    if wide is None or latent.requires_grad:
        x = latent.reshape(-1, t, pt, h, ph, w, pw)  # (C, t, pt, h, ph, w, pw)
        return x.permute(1, 3, 5, 0, 2, 4, 6).reshape(t * h * w, -1)  # (t h w, C pt ph pw)
    x = latent.contiguous().view(wide).reshape(-1, t, pt, h, ph, w)  # (C, t, pt, h, ph, w)
    tokens = latent.new_empty(t * h * w, x.shape[0] * pt * ph * pw)
    tokens.view(wide).view(t, h, w, -1, pt, ph).copy_(x.permute(1, 3, 5, 0, 2, 4))
    return tokens


def draw_noise(shape: Sequence[int], patch: Patch, generator: torch.Generator) -> Tensor:
    """What `patchify` makes of standard normal noise of shape (C, T, H, W), drawn as tokens."""
    t, h, w = grid_size(shape, patch)
    noise = torch.randn(t * h * w, shape[0] * math.prod(patch), generator=generator)
    if patch[0] > 1 and first_frame_is_alone(shape[1], patch):
        copies = noise[: h * w].unflatten(1, (shape[0], patch[0], -1))  # (h w, C, pt, ph pw)
        copies[:, :, 1:] = copies[:, :, :1]
    return noise


def unpatchify(tokens: Tensor, grid: Patch, patch: Patch, num_frames: int | None = None) -> Tensor:
    """The inverse of `patchify`: (t * h * w, C * pt * ph * pw) to (C, T, H, W).

    `num_frames` is T, by default t * pt; one frame above a multiple of pt is the mean of the first patch's frames.
    """
    (t, h, w), (pt, ph, pw) = grid, patch
    x = tokens.reshape(t, h, w, -1, pt, ph, pw).permute(3, 0, 4, 1, 5, 2, 6)  # (C, t, pt, h, ph, w, pw)
    x = x.reshape(-1, t * pt, h * ph, w * pw)
    if num_frames is None or num_frames == t * pt:
        return x
    return torch.cat([x[:, :pt].mean(dim=1, keepdim=True), x[:, pt:]], dim=1)


def tie_copies(tokens: Tensor, lone_frames: Tensor | None, patch: Patch) -> Tensor:
    """A frame that fills a tubelet by being repeated has one answer: the mean of its copies'.

    Args:
        tokens: (L, C * pt * ph * pw) what a model says.
        lone_frames: (L,) bool, tubelets of one repeated frame; None: there are none.
        patch: of the tokens.

    Returns:
        (L, C * pt * ph * pw).
    """
    if lone_frames is None:
        return tokens
    pt, ph, pw = patch
    frames = tokens.unflatten(-1, (-1, pt, ph * pw))  # (L, C, pt, ph * pw)
    tied = frames.mean(dim=2, keepdim=True).expand_as(frames).flatten(1)  # (L, C * pt * ph * pw)
    return torch.where(lone_frames[:, None], tied, tokens)


def grid_positions(grid: Patch) -> Tensor:
    """(t * h * w, 3) int64: frame, row and column of each token, in the order of `patchify`."""
    return torch.cartesian_prod(*(torch.arange(n) for n in grid)).reshape(-1, 3)


def grid_index(positions: Tensor, grid: Patch) -> Tensor:
    """(n, 3) frame, row and column to (n,) indices into the tokens of a whole grid: inverse of `grid_positions`."""
    _, h, w = grid
    return (positions[:, 0] * h + positions[:, 1]) * w + positions[:, 2]
