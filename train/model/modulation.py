"""Adaptive layer norm (DiT, Peebles & Xie 2023, §3.2): shift, scale and gate of a token, from its row of conditions.

They are computed on R rows (cheap) and only the result is spread over N tokens, where it is used. The weights are a
block's own, or shared by all blocks and adapted by each: by a low rank (adaLN-LoRA; W.A.L.T, Gupta et al. 2023, §3.3)
or by a learned vector (adaLN-single; PixArt-α, Chen et al. 2023, §2.3).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.model.conditioning import Conditions, RowLinear
from train.model.config import DiTConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Signal:
    """What modulates one sublayer, as rows (R, D) float32; None: nothing does."""

    shift: Tensor | None = None
    scale: Tensor | None = None
    gate: Tensor | None = None
    row_ids: Tensor | None = None  # (N,)

    def modulate(self, x: Tensor) -> Tensor:
        """x (1 + scale) + shift, (N, D)."""
        if self.shift is None or self.scale is None or self.row_ids is None:
            return x
        # 1 is added to the rows, which are few, and not to the tokens.
        return scale_by_rows(x, 1 + self.scale, self.row_ids) + gather_rows(self.shift, self.row_ids)

    def gated(self, x: Tensor) -> Tensor:
        """gate · x, (N, D)."""
        if self.gate is None or self.row_ids is None:
            return x
        # What is added to the residual stream keeps its type.
        return scale_by_rows(x, self.gate.to(x.dtype), self.row_ids)


class Modulation(nn.Module):
    """The signals of a block's sublayers."""

    def __init__(self, config: DiTConfig, num_sublayers: int) -> None:
        super().__init__()
        self.num_chunks = (3 if config.conditioning == "adaln_zero" else 2) * num_sublayers
        self.num_sublayers = num_sublayers
        size = self.num_chunks * config.width
        match config.adaln:
            case "block":
                self.linear = RowLinear(config.width, size)
            case "lora":
                down, up = RowLinear(config.width, config.adaln_rank, bias=False), RowLinear(config.adaln_rank, size)
                self.linear = nn.Sequential(down, up)
            case "shared":
                self.linear = Constant(size)

    def forward(self, conditions: Conditions) -> list[Signal]:
        rows = self.linear(F.silu(conditions.rows.float()))  # (R, chunks · D)
        if conditions.shared is not None:
            rows = rows + conditions.shared  # (R, chunks · D)
        chunks = rows.chunk(self.num_chunks, dim=-1)  # chunks × (R, D)
        per_sublayer = self.num_chunks // self.num_sublayers
        return [
            Signal(
                shift=chunks[i],
                scale=chunks[i + 1],
                gate=chunks[i + 2] if per_sublayer == 3 else None,
                row_ids=conditions.row_ids,
            )
            for i in range(0, self.num_chunks, per_sublayer)
        ]

    def zero(self) -> None:
        """Start with no modulation by this block."""
        last = self.linear[-1] if isinstance(self.linear, nn.Sequential) else self.linear
        nn.init.zeros_(last.weight)


class Constant(nn.Module):
    """A learned vector, whatever the input."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size))

    def forward(self, _: Tensor) -> Tensor:
        return self.weight.float()


def gather_rows(rows: Tensor, row_ids: Tensor) -> Tensor:
    """(R, D) to (N, D)."""
    return _GatherRows.apply(rows, row_ids)


def scale_by_rows(x: Tensor, rows: Tensor, row_ids: Tensor) -> Tensor:
    """x · rows[row_ids], (N, D); for its backward it keeps the few rows, and not what was gathered of them."""
    return _ScaleByRows.apply(x, rows, row_ids)


class _GatherRows(torch.autograd.Function):
    """`index_select` with the backward of `_sum_by_row`."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, rows: Tensor, row_ids: Tensor) -> Tensor:
        ctx.save_for_backward(row_ids)
        ctx.num_rows = len(rows)
        return rows.index_select(0, row_ids)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        (row_ids,) = ctx.saved_tensors
        return _sum_by_row(grad, row_ids, ctx.num_rows), None


class _ScaleByRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, rows: Tensor, row_ids: Tensor) -> Tensor:
        ctx.save_for_backward(x, rows, row_ids)
        return x * rows.index_select(0, row_ids)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, rows, row_ids = ctx.saved_tensors
        return grad * rows.index_select(0, row_ids), _sum_by_row(grad * x, row_ids, len(rows)), None


def _sum_by_row(tokens: Tensor, row_ids: Tensor, num_rows: int) -> Tensor:
    """(N, D) to (R, D), as a product with the one-hot matrix of the ids.

    `index_add` adds N tokens into R rows one by one: on a GPU, with few rows, they wait for each other, in an order
    that changes from run to run. The product is deterministic, sums in float32, and costs N · R · D.
    """
    one_hot = torch.arange(num_rows, device=tokens.device)[:, None] == row_ids  # (R, N)
    return one_hot.to(tokens.dtype) @ tokens
