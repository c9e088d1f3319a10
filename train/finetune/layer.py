"""A linear layer with low-rank updates, computed with what is frozen in mind. Imports peft: import it in functions.

The layer is peft's, which initialises, merges, and computes dropout and DoRA. Without those, the product here keeps
its input and nothing else for the backward pass, adds the update in place, and leaves out gradients of what is frozen.

Letters: N tokens, r rank.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from curate.encoders import torchvision_cpu
from train.finetune.quantized import QuantizedLinear
from train.model.conditioning import ConditionLinear

torchvision_cpu.repair()  # peft imports much of transformers

from peft.tuners.lora.layer import Linear as PeftLinear  # noqa: E402


class LoraLinear(PeftLinear):
    """x Wᵀ + bias + Σ scale · x Aᵀ Bᵀ over the active adapters."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """(…, D_in) to (…, D_out)."""
        names = [name for name in self.active_adapters if name in self.lora_A]
        base = self.get_base_layer()
        is_plain = names and not (self.merged or self.disable_adapters or any(n in self.lora_variant for n in names))
        drops = self.training and any(isinstance(self.lora_dropout[name], nn.Dropout) for name in names)
        quantized = isinstance(base, QuantizedLinear)
        of_conditions = base.is_condition if quantized else isinstance(base, ConditionLinear)
        if not is_plain or drops or of_conditions:  # the last: few rows, always in float32
            out: Tensor = super().forward(x, *args, **kwargs)
            return out
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        if len(names) == 1:
            down, up, scale = self.lora_A[names[0]].weight, self.lora_B[names[0]].weight, self.scaling[names[0]]
        else:  # as one of the sum of the ranks
            down = torch.cat([self.lora_A[name].weight for name in names])
            up, scale = torch.cat([self.scaling[name] * self.lora_B[name].weight for name in names], dim=1), 1.0
        weight = base.weight if not quantized else None
        return _LowRank.apply(x, weight, base.bias, down, up, scale, base.dense if quantized else None)


class _LowRank(torch.autograd.Function):
    """Weights are made ready where they are used, and again in the backward pass: no copy of them is kept.

    In float32 the update is added to the weight, much smaller than a pack, and one product does for both. In bfloat16
    small updates would be lost in the sum: they are products of their own.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        down: Tensor,
        up: Tensor,
        scale: float,
        dense: Callable[[torch.dtype], Tensor] | None,
    ) -> Tensor:
        """`dense` gives the weight of a quantized layer, which has none of its own."""
        ctx.save_for_backward(x, weight, down, up)
        ctx.scale, ctx.dense = scale, dense
        bias = None if bias is None else bias.to(x.dtype)
        weight = _weight(weight, dense, x.dtype)
        if _adds(x, weight):
            return F.linear(x, torch.addmm(weight, up, down, alpha=scale), bias)
        low = F.linear(x, down.to(x.dtype)).flatten(0, -2)  # (N, r)
        out = F.linear(x, weight.to(x.dtype), bias)
        out.view(-1, len(weight)).addmm_(low, up.to(x.dtype).t(), alpha=scale)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, down, up = ctx.saved_tensors
        to_x, to_weight, to_bias, to_down, to_up, *_ = ctx.needs_input_grad
        rows, upstream = x.flatten(0, -2), grad.to(x.dtype).flatten(0, -2)  # (N, D_in), (N, D_out)
        low = (upstream @ up.to(x.dtype)).mul_(ctx.scale)  # (N, r)
        of_x = None
        if to_x:
            whole = _weight(weight, ctx.dense, x.dtype)
            if _adds(x, whole):
                of_x = (upstream @ torch.addmm(whole, up, down, alpha=ctx.scale)).view_as(x)
            else:
                of_x = (upstream @ whole.to(x.dtype)).addmm_(low, down.to(x.dtype)).view_as(x)
        of_down = (low.t() @ rows).to(down.dtype) if to_down else None
        of_up = (upstream.t() @ (rows @ down.to(x.dtype).t())).mul_(ctx.scale).to(up.dtype) if to_up else None
        of_weight = (upstream.t() @ rows).to(weight.dtype) if to_weight else None
        of_bias = upstream.sum(0) if to_bias else None
        return of_x, of_weight, of_bias, of_down, of_up, None, None


def _weight(weight: Tensor | None, dense: Callable[[torch.dtype], Tensor] | None, dtype: torch.dtype) -> Tensor:
    if dense is not None:
        return dense(dtype)
    assert weight is not None, "a layer that is not quantized has one"
    return weight


def _adds(x: Tensor, weight: Tensor) -> bool:
    return x.dtype == weight.dtype == torch.float32
