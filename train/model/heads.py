"""Queries and keys of a head: normalised (ViT-22B, Dehghani et al. 2023, §2) and rotated in one go.

As separate operations they keep five intermediates of the size of the queries for the backward pass, and read and
write them a dozen times. Here the input and one number per head are kept.
"""

import math
from typing import Any

import torch
from torch import Tensor

from train.model.position import Rotation


def normalised_and_rotated(
    x: Tensor, weight: Tensor | None, rotation: Rotation | None, *, loose: bool = False
) -> Tensor:
    """RMS norm over the head's width, or over all heads, then the rotation of each pair, in float32.

    Args:
        x: (N, H, D_head).
        weight: (D_head,) of the norm, or (H, D_head) of one over all heads at once; None: no norm.
        rotation: of N tokens; None: none.
        loose: 1e-5 is added to the mean square, not 1e-6.

    Returns:
        (N, H, D_head) in the type of `x`.
    """
    if rotation is None:
        return x if weight is None else _Normalised.apply(x, weight, None, None, loose)
    if weight is None:
        return _Rotated.apply(x, rotation.cos, rotation.sin)
    return _Normalised.apply(x, weight, rotation.cos, rotation.sin, loose)


class _Rotated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return rotate(x.float(), _both(cos), _signed(sin)).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return rotate(grad.float(), _both(cos), -_signed(sin)).to(grad.dtype), None, None


class _Normalised(torch.autograd.Function):
    """r(w x / rms(x)): the w of a head is multiplied into the tables of the rotation r, which are H times smaller than
    x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, cos: Tensor | None, sin: Tensor | None, loose: bool) -> Tensor:
        y = x.float()
        inverse = _inverse_rms(y, weight.ndim, loose)
        if cos is None or sin is None:
            out = y * weight
        elif weight.ndim == 2:
            out = rotate(y * weight, _both(cos), _signed(sin))
        else:
            out = rotate(y, _both(cos) * weight, _signed(sin) * _swapped(weight))
        ctx.save_for_backward(x, weight, inverse, cos, sin)
        return out.mul_(inverse).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        x, weight, inverse, cos, sin = ctx.saved_tensors
        y, upstream = x.float(), grad.float()
        if cos is not None:
            upstream = rotate(upstream, _both(cos), -_signed(sin))  # of w x / rms(x)
        along = upstream * y  # (N, H, D_head)
        to_weight = ctx.needs_input_grad[1]
        of_weight = (along * inverse).flatten(0, -1 - weight.ndim).sum(0) if to_weight else None  # as the weight
        mean = along.mul_(weight).mean(_normed(weight.ndim), keepdim=True).mul_(inverse.pow(3))  # (N, H, 1), (N, 1, 1)
        of_x = (upstream * weight).mul_(inverse).addcmul_(y, mean, value=-1)
        return of_x.to(x.dtype), of_weight, None, None, None


def _normed(num_dims: int) -> tuple[int, ...]:
    return (-1,) if num_dims == 1 else (-2, -1)


def _inverse_rms(x: Tensor, num_dims: int, loose: bool) -> Tensor:
    """(N, H, 1) of (N, H, D_head), or over all heads (N, 1, 1)."""
    dims = _normed(num_dims)
    squares = torch.linalg.vector_norm(x, dim=dims, keepdim=True).square_()
    # Literals, which `nn.RMSNorm` of the blocks repeats: a compiler takes a float with a name for a variable.
    return squares.div_(math.prod(x.shape[-num_dims:])).add_(1e-5 if loose else 1e-6).rsqrt_()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x · cos + swapped(x) · sin of x (N, H, D_head) and tables (N, 1 or H, D_head)."""
    half = x.shape[-1] // 2
    out = x * cos
    out[..., :half].addcmul_(x[..., half:], sin[..., :half])
    out[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return out


def _both(cos: Tensor) -> Tensor:
    return torch.cat([cos, cos], dim=-1)


def _signed(sin: Tensor) -> Tensor:
    return torch.cat([-sin, sin], dim=-1)


def _swapped(x: Tensor) -> Tensor:
    """The halves of the last dimension exchanged."""
    return x.roll(x.shape[-1] // 2, -1)
