"""Adaptive layer norm (DiT, Peebles & Xie 2023, §3.2): shift, scale and gate of a token, from its condition vector.

They are computed on R vectors (cheap) and only the result is spread over N tokens, where it is used. The weights are a
block's own, or shared by all blocks and adapted by each: by a low rank (adaLN-LoRA; W.A.L.T, Gupta et al. 2023, §3.3)
or by a learned vector (adaLN-single; PixArt-α, Chen et al. 2023, §2.3).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.model.conditioning import ConditionLinear, Conditions
from train.model.dit_config import DiTConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class ModulationParameters:
    """Shift, scale and gate of one sublayer, each (R, D) float32; None: it has none."""

    shift: Tensor | None = None
    scale: Tensor | None = None
    gate: Tensor | None = None
    condition_ids: Tensor | None = None  # (N,)

    def modulate(self, x: Tensor) -> Tensor:
        """x (1 + scale) + shift, (N, D)."""
        if self.shift is None or self.scale is None or self.condition_ids is None:
            return x
        # 1 is added to R vectors, and not to N tokens.
        return _Modulated.apply(x, 1 + self.scale, self.shift, self.condition_ids)

    def added(self, x: Tensor, change: Tensor) -> Tensor:
        """x + gate · change, (N, D)."""
        if self.gate is None or self.condition_ids is None:
            return x + change
        # What is added to the residual stream keeps its type.
        return _Added.apply(x, change, self.gate.to(change.dtype), self.condition_ids)


def layer_norm(config: DiTConfig, eps: float = 1e-6) -> nn.LayerNorm:
    """Its own scale and shift only where no condition gives them."""
    return nn.LayerNorm(config.width, elementwise_affine=not config.modulated, eps=eps)


class Modulation(nn.Module):
    """Modulation parameters of a block's sublayers."""

    def __init__(self, config: DiTConfig, num_sublayers: int) -> None:
        super().__init__()
        self.num_chunks = (3 if config.conditioning == "adaln_zero" else 2) * num_sublayers
        self.num_sublayers = num_sublayers
        size = self.num_chunks * config.width
        match config.adaln:
            case "block":
                self.linear = ConditionLinear(config.width, size)
            case "lora":
                down, up = (
                    ConditionLinear(config.width, config.adaln_rank, bias=False),
                    ConditionLinear(config.adaln_rank, size),
                )
                self.linear = nn.Sequential(down, up)
            case "shared":
                self.linear = Constant(size)

    def forward(self, conditions: Conditions) -> list[ModulationParameters]:
        joined = self.linear(F.silu(conditions.vectors.float()))  # (R, chunks · D)
        if conditions.shared is not None:
            joined = joined + conditions.shared  # (R, chunks · D)
        chunks = joined.chunk(self.num_chunks, dim=-1)  # chunks × (R, D)
        per_sublayer = self.num_chunks // self.num_sublayers
        return [
            ModulationParameters(
                shift=chunks[i],
                scale=chunks[i + 1],
                gate=chunks[i + 2] if per_sublayer == 3 else None,
                condition_ids=conditions.condition_ids,
            )
            for i in range(0, self.num_chunks, per_sublayer)
        ]

    def zero(self) -> None:
        """Start with no modulation by this block."""
        last = self.linear[-1] if isinstance(self.linear, nn.Sequential) else self.linear
        nn.init.zeros_(last.weight)


def final_modulation(config: DiTConfig) -> nn.Module:
    """(R, D) vectors to shift and scale of the last norm, (R, 2 D) float32."""
    kind = ActivatedLinear if config.final_adaln == "linear" else AddedTable
    return kind(config.width, 2 * config.width)


class ActivatedLinear(ConditionLinear):
    """A linear layer on activated vectors (DiT)."""

    def forward(self, vectors: Tensor) -> Tensor:
        return super().forward(F.silu(vectors.float()))


class AddedTable(nn.Module):
    """Each vector, repeated, plus a learned one (the published PixArt-α)."""

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.repeats = size // width
        self.weight = nn.Parameter(torch.zeros(size))

    def forward(self, vectors: Tensor) -> Tensor:
        return vectors.float().repeat(1, self.repeats) + self.weight.float()


class Constant(nn.Module):
    """A learned vector, independent of the input."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size))

    def forward(self, _: Tensor) -> Tensor:
        return self.weight.float()


class _Modulated(torch.autograd.Function):
    """x · scale[condition_ids] + shift[condition_ids]; its backward keeps R vectors, not the N gathered ones, and x
    only where the scale trains."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, condition_ids: Tensor) -> Tensor:
        ctx.x_dtype = x.dtype
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, scale, condition_ids)
        return shift.index_select(0, condition_ids).addcmul_(x.to(shift.dtype), scale.index_select(0, condition_ids))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, condition_ids = ctx.saved_tensors
        to_x, to_scale, to_shift, _ = ctx.needs_input_grad
        of_x = (grad * scale.index_select(0, condition_ids)).to(ctx.x_dtype) if to_x else None
        of_scale = _sum_by_condition(grad * x, condition_ids, len(scale)) if to_scale else None
        of_shift = _sum_by_condition(grad, condition_ids, len(scale)) if to_shift else None
        return of_x, of_scale, of_shift, None


class _Added(torch.autograd.Function):
    """x + change · gate[condition_ids]; its backward keeps the change only where the gate trains."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, change: Tensor, gate: Tensor, condition_ids: Tensor) -> Tensor:
        ctx.save_for_backward(change if ctx.needs_input_grad[2] else None, gate, condition_ids)
        gates = gate.index_select(0, condition_ids)
        return torch.addcmul(x, change, gates) if x.dtype == change.dtype else x + gates.mul_(change)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        change, gate, condition_ids = ctx.saved_tensors
        _, to_change, to_gate, _ = ctx.needs_input_grad
        upstream = grad.to(gate.dtype)  # that of the change
        of_change = upstream * gate.index_select(0, condition_ids) if to_change else None
        of_gate = _sum_by_condition(upstream * change, condition_ids, len(gate)) if to_gate else None
        return grad, of_change, of_gate, None


def _sum_by_condition(tokens: Tensor, condition_ids: Tensor, num_condition_tokens: int) -> Tensor:
    """(N, D) to (R, D), as a product with the one-hot matrix of the ids.

    `index_add` adds N tokens into R vectors one by one: on a GPU, with few vectors, they wait for each other, in an
    order that changes from run to run. The product is deterministic, sums in float32, and costs N · R · D. A CPU adds
    them in order, in a fraction of the product's time.
    """
    if tokens.device.type == "cpu" and not torch.compiler.is_compiling():
        sums = torch.zeros(num_condition_tokens, tokens.shape[1]).index_add_(0, condition_ids, tokens.float())
        return sums.to(tokens.dtype)
    one_hot = torch.arange(num_condition_tokens, device=tokens.device)[:, None] == condition_ids  # (R, N)
    return one_hot.to(tokens.dtype) @ tokens
