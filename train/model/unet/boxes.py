"""Convolution and group norm of boxes of unlike sizes that lie in one row, as operators of torch.

Boxes are pictures (rows × columns) or, along time, samples (frames × patches of a frame). A row holds them one after
the other, channels last, so that each run of equal boxes is a batch without a copy, and nothing is padded. How a row
is cut is data on the host: compilers and autograd meet one operator, and no pack needs other code.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.backends import cudnn
from torch.utils.flop_counter import register_flop_formula

EPS = 1e-5

Norm: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""What is normalised, (N, C), and of each box mean and inverse standard deviation, (B, num_groups)."""


class Boxes:
    """Runs of equal boxes. Their sizes stay on the host, where a pack's tensors move (see `HostLengths`).

    Attributes:
        sizes: (G, 3) int64: of each run its number of boxes, rows and columns.
        num_boxes: of all runs.
        num_values: N of the row.
    """

    __slots__ = ("num_boxes", "num_values", "sizes")

    def __init__(self, runs: Sequence[tuple[int, int, int]]) -> None:
        self.sizes = torch.tensor(runs, dtype=torch.int64)
        self.num_boxes = sum(n for n, _, _ in runs)
        self.num_values = sum(n * h * w for n, h, w in runs)


@torch.library.custom_op("reelpack::box_convolution", mutates_args=())
def box_convolution(x: Tensor, weight: Tensor, bias: Tensor, sizes: Tensor, num_out: int, stride: int) -> Tensor:
    """Convolution of each box, zeros around it.

    Args:
        x: (N, C) boxes in a row.
        weight: (C', C, kh, kw), kh and kw odd.
        bias: (C',).
        sizes: (G, 3) of the boxes, on the host.
        num_out: N' values of the result, which has ceil(rows / stride) rows and ceil(columns / stride) columns.
        stride: of both axes.

    Returns:
        (N', C') in the type of `x`.
    """
    padding = _padding(weight)
    with cudnn.flags(enabled=True, deterministic=True):
        outs = [torch.conv2d(box, weight, bias, stride, padding) for box in _boxes(x, sizes)]
    return _row(outs)


@torch.library.custom_op("reelpack::box_convolution_backward", mutates_args=())
def box_convolution_backward(
    grad: Tensor, x: Tensor, weight: Tensor, sizes: Tensor, stride: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x (N, C), weight and bias; those of weight and bias are summed over the runs in float32."""
    wide = torch.promote_types(weight.dtype, torch.float32)
    of_x, of_weight, of_bias = [], torch.zeros_like(weight, dtype=wide), grad.sum(0, dtype=wide)
    with cudnn.flags(enabled=True, deterministic=True):
        for box, upstream in zip(_boxes(x, sizes), _boxes(grad, _strided(sizes, stride)), strict=True):
            of_box, of_run, _ = torch.ops.aten.convolution_backward(
                upstream, box, weight, None, [stride] * 2, _padding(weight), [1, 1], False, [0, 0], 1,
                [True, True, False],
            )  # fmt: skip
            of_x.append(of_box)
            of_weight += of_run
    return _row(of_x), of_weight.to(weight.dtype), of_bias.to(weight.dtype)


@box_convolution.register_fake
def _(x: Tensor, weight: Tensor, _bias: Tensor, _sizes: Tensor, num_out: int, _stride: int) -> Tensor:
    return x.new_empty(num_out, weight.shape[0])


@box_convolution_backward.register_fake
def _(_grad: Tensor, x: Tensor, weight: Tensor, *_: object) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(weight), weight.new_empty(weight.shape[0])


def _keep_convolution(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, _, sizes, _, ctx.stride = inputs
    ctx.save_for_backward(x, weight, sizes)


def _convolution_gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return (*box_convolution_backward(grad.contiguous(), *ctx.saved_tensors, ctx.stride), None, None, None)


box_convolution.register_autograd(_convolution_gradients, setup_context=_keep_convolution)


@register_flop_formula(torch.ops.reelpack.box_convolution, get_raw=True)
def _flops(_x: Tensor, weight: Tensor, _bias: Tensor, _sizes: Tensor, num_out: int, *_: object, **__: object) -> int:
    return 2 * num_out * weight.numel()


@torch.library.custom_op("reelpack::box_norm", mutates_args=())
def box_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, sizes: Tensor, num_boxes: int, num_groups: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Group norm (Wu & He 2018) of each box.

    Args:
        x: (N, C) boxes in a row.
        weight: (C,) in the type of `x`; None: no scale.
        bias: (C,), where there is a weight.
        sizes: (G, 3) of the boxes, on the host.
        num_boxes: B of all runs.
        num_groups: of channels.

    Returns:
        (N, C) in the type of `x`, and mean and inverse standard deviation, (B, num_groups) in it, too.
    """
    parts = []
    for box in _boxes(x, sizes):
        n, c, h, w = box.shape
        parts.append(torch.ops.aten.native_group_norm(box, weight, bias, n, c, h * w, num_groups, EPS))
    outs, means, scales = zip(*parts, strict=True)
    return _row(outs), torch.cat(means), torch.cat(scales)


@torch.library.custom_op("reelpack::box_norm_backward", mutates_args=())
def box_norm_backward(
    grad: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, scale: Tensor, sizes: Tensor, num_groups: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x (N, C), and of weight and bias, summed over the runs in float32; zeros where there are none."""
    counts, grads = sizes[:, 0].tolist(), []
    wide, has_weight = torch.promote_types(x.dtype, torch.float32), weight is not None
    of_weight, of_bias = x.new_zeros(x.shape[1], dtype=wide), x.new_zeros(x.shape[1], dtype=wide)
    for upstream, box, *of_run in zip(
        _boxes(grad, sizes), _boxes(x, sizes), mean.split(counts), scale.split(counts), strict=True
    ):
        n, c, h, w = box.shape
        of_box, *of_affine = torch.ops.aten.native_group_norm_backward(
            upstream, box, *of_run, weight, n, c, h * w, num_groups, [True, has_weight, has_weight]
        )
        grads.append(of_box)
        if has_weight:
            of_weight += of_affine[0]
            of_bias += of_affine[1]
    return _row(grads), of_weight.to(x.dtype), of_bias.to(x.dtype)


@box_norm.register_fake
def _(x: Tensor, _weight: Any, _bias: Any, _sizes: Tensor, num_boxes: int, num_groups: int) -> Norm:
    return torch.empty_like(x), x.new_empty(num_boxes, num_groups), x.new_empty(num_boxes, num_groups)


@box_norm_backward.register_fake
def _(_grad: Tensor, x: Tensor, *_: object) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), x.new_empty(x.shape[1]), x.new_empty(x.shape[1])


def _keep_norm(ctx: Any, inputs: tuple[Any, ...], output: Norm) -> None:
    x, weight, _, sizes, _, ctx.num_groups = inputs
    ctx.save_for_backward(x, weight, *output[1:], sizes)
    ctx.set_materialize_grads(False)  # mean and deviation have none


def _norm_gradients(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors  # read once: under checkpointing they are computed again
    of_x, of_weight, of_bias = box_norm_backward(grad.contiguous(), *saved, ctx.num_groups)
    of_affine = (None, None) if saved[1] is None else (of_weight, of_bias)
    return (of_x, *of_affine, None, None, None)


box_norm.register_autograd(_norm_gradients, setup_context=_keep_norm)


def _boxes(x: Tensor, sizes: Tensor) -> Iterator[Tensor]:
    """Of each run of (N, C) its (n, C, rows, columns), channels last, sharing memory."""
    x, start = x.contiguous(), 0
    for n, h, w in sizes.tolist():
        yield x[start : start + n * h * w].view(n, h, w, -1).permute(0, 3, 1, 2)
        start += n * h * w


def _row(boxes: Iterable[Tensor]) -> Tensor:
    """(n, C, rows, columns) of each run to (N, C)."""
    parts = [box.permute(0, 2, 3, 1).flatten(0, 2) for box in boxes]
    return torch.cat(parts) if len(parts) > 1 else parts[0].contiguous()


def _strided(sizes: Tensor, stride: int) -> Tensor:
    return torch.cat([sizes[:, :1], (sizes[:, 1:] + stride - 1) // stride], dim=1)


def _padding(weight: Tensor) -> list[int]:
    return [side // 2 for side in weight.shape[2:]]
