"""Convolution and group norm of boxes of unlike sizes that lie in one row.

Boxes are pictures (rows × columns) or, along time, samples (frames × patches of a frame). A row holds them one after
the other, channels last, so that each run of equal boxes is a batch without a copy, and nothing is padded. How a row
is cut is data on the host. Compilers meet one operator, and no pack needs other code; without one, the same functions
run as a node of autograd, for on a CPU an operator written in Python costs as much as the norm of a small picture.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.backends import cudnn

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
    convolution = convolution_operator if torch.compiler.is_compiling() else _Convolution.apply
    out: Tensor = convolution(x, weight, bias, sizes, num_out, stride)
    return out


def _convolved(x: Tensor, weight: Tensor, bias: Tensor, sizes: Tensor, num_out: int, stride: int) -> Tensor:
    padding = _padding(weight)
    with cudnn.flags(enabled=True, deterministic=True):
        outs = [torch.conv2d(box, weight, bias, stride, padding) for box in _boxes(x, sizes)]
    return _row(outs)


def _convolution_gradients(
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


def _keep_convolution(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, _, sizes, _, ctx.stride = inputs
    ctx.save_for_backward(x, weight, sizes)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        out = _convolved(*inputs)
        _keep_convolution(ctx, inputs, out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, sizes = ctx.saved_tensors
        return (*_convolution_gradients(grad.contiguous(), x, weight, sizes, ctx.stride), None, None, None)


convolution_operator = torch.library.custom_op("reelpack::box_convolution", _convolved, mutates_args=())
_gradients_operator = torch.library.custom_op(
    "reelpack::box_convolution_backward", _convolution_gradients, mutates_args=()
)


@convolution_operator.register_fake
def _(x: Tensor, weight: Tensor, _bias: Tensor, _sizes: Tensor, num_out: int, _stride: int) -> Tensor:
    return x.new_empty(num_out, weight.shape[0])


@_gradients_operator.register_fake
def _(_grad: Tensor, x: Tensor, weight: Tensor, *_: object) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(weight), weight.new_empty(weight.shape[0])


def _operator_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return (*_gradients_operator(grad.contiguous(), *ctx.saved_tensors, ctx.stride), None, None, None)


convolution_operator.register_autograd(_operator_backward, setup_context=_keep_convolution)


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
    norm = norm_operator if torch.compiler.is_compiling() else _Norm.apply
    return norm(x, weight, bias, sizes, num_boxes, num_groups)


def _normed(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, sizes: Tensor, num_boxes: int, num_groups: int
) -> tuple[Tensor, Tensor, Tensor]:
    parts = []
    for box in _boxes(x, sizes):
        n, c, h, w = box.shape
        parts.append(torch.ops.aten.native_group_norm(box, weight, bias, n, c, h * w, num_groups, EPS))
    outs, means, scales = zip(*parts, strict=True)
    return _row(outs), torch.cat(means), torch.cat(scales)


def _norm_gradients(
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


def _keep_norm(ctx: Any, inputs: tuple[Any, ...], output: Norm) -> None:
    x, weight, _, sizes, _, ctx.num_groups = inputs
    ctx.save_for_backward(x, weight, *output[1:], sizes)
    ctx.set_materialize_grads(False)  # mean and deviation have none


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Norm:
        outs = _normed(*inputs)
        _keep_norm(ctx, inputs, outs)
        ctx.mark_non_differentiable(*outs[1:])
        return outs

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        return _given_back(_norm_gradients, ctx, grad)


def _given_back(gradients: Callable[..., Norm], ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors  # read once: under checkpointing they are computed again
    of_x, of_weight, of_bias = gradients(grad.contiguous(), *saved, ctx.num_groups)
    of_affine = (None, None) if saved[1] is None else (of_weight, of_bias)
    return (of_x, *of_affine, None, None, None)


norm_operator = torch.library.custom_op("reelpack::box_norm", _normed, mutates_args=())
_norm_gradients_operator = torch.library.custom_op("reelpack::box_norm_backward", _norm_gradients, mutates_args=())


@norm_operator.register_fake
def _(x: Tensor, _weight: Any, _bias: Any, _sizes: Tensor, num_boxes: int, num_groups: int) -> Norm:
    return torch.empty_like(x), x.new_empty(num_boxes, num_groups), x.new_empty(num_boxes, num_groups)


@_norm_gradients_operator.register_fake
def _(_grad: Tensor, x: Tensor, *_: object) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), x.new_empty(x.shape[1]), x.new_empty(x.shape[1])


norm_operator.register_autograd(
    lambda ctx, grad, *_: _given_back(_norm_gradients_operator, ctx, grad), setup_context=_keep_norm
)


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
