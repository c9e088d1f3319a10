"""Frozen linear layers in 8 or 4 bits, dequantized where used (QLoRA, Dettmers et al. 2023, arXiv:2305.14314).

int8: round(W / s), one s per output, max |W| / 127. nf4: section 3's 4-bit NormalFloat in blocks of 64 weights, by
bitsandbytes, their largest absolute values kept in float32 (no double quantization).

Letters: D_in, D_out of a layer.
"""

from abc import abstractmethod
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.model.conditioning import ConditionLinear

Bits = Literal["int8", "nf4"]
BLOCK = 64
"""Weights of nf4 with one scale."""


class QuantizedLinear(nn.Linear):
    """x Wᵀ + bias. `weight` holds codes and never trains; `scales` are float32. The bias may train.

    Args:
        layer: whose weight is quantized.
    """

    scales: Tensor

    def __init__(self, layer: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features, self.bias = layer.in_features, layer.out_features, layer.bias
        self.is_condition = isinstance(layer, ConditionLinear)
        codes, scales = self.quantized(layer.weight.detach().float())
        self.weight = nn.Parameter(codes, requires_grad=False)
        self.register_buffer("scales", scales, persistent=False)

    @staticmethod
    @abstractmethod
    def quantized(weight: Tensor) -> tuple[Tensor, Tensor]:
        """Codes and scales of a weight (D_out, D_in), float32."""

    @abstractmethod
    def dense(self, dtype: torch.dtype) -> Tensor:
        """The weight, (D_out, D_in)."""

    def forward(self, x: Tensor) -> Tensor:
        """(…, D_in) to (…, D_out). Layers on condition vectors compute in float32, as where they are not quantized."""
        device = x.device.type
        if self.is_condition:
            x = x.float()
        elif torch.is_autocast_enabled(device):
            x = x.to(torch.get_autocast_dtype(device))
        with torch.autocast(device, enabled=False):
            out: Tensor = _Product.apply(x, self.bias, self)
        return out

    def plain(self) -> nn.Linear:
        """A layer with these values, float32."""
        kind = ConditionLinear if self.is_condition else nn.Linear
        layer = kind(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        layer.weight = nn.Parameter(self.dense(torch.float32), requires_grad=False)
        layer.bias = self.bias
        return layer


class _Product(torch.autograd.Function):
    """The dense weight is made again in the backward pass: none is kept, and no input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None, layer: QuantizedLinear) -> Tensor:
        ctx.layer = layer
        return F.linear(x, layer.dense(x.dtype), None if bias is None else bias.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        to_x, to_bias, _ = ctx.needs_input_grad
        return (
            grad @ ctx.layer.dense(grad.dtype) if to_x else None,
            grad.flatten(0, -2).sum(0).to(ctx.layer.bias.dtype) if to_bias else None,
            None,
        )


class Int8Linear(QuantizedLinear):
    """In 8 bits."""

    @staticmethod
    def quantized(weight: Tensor) -> tuple[Tensor, Tensor]:
        scales = weight.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny) / 127
        return (weight / scales).round().to(torch.int8), scales

    def dense(self, dtype: torch.dtype) -> Tensor:
        return (self.weight * self.scales).to(dtype)


class Nf4Linear(QuantizedLinear):
    """In 4 bits, two weights a byte."""

    @staticmethod
    def quantized(weight: Tensor) -> tuple[Tensor, Tensor]:
        from bitsandbytes.functional import quantize_4bit

        codes, state = quantize_4bit(weight, blocksize=BLOCK, quant_type="nf4")
        return codes, state.absmax

    def dense(self, dtype: torch.dtype) -> Tensor:
        from bitsandbytes.functional import QuantState, dequantize_4bit, get_4bit_type

        shape, code = torch.Size((self.out_features, self.in_features)), get_4bit_type("nf4", self.weight.device)
        state = QuantState(self.scales, shape, code, BLOCK, "nf4", dtype)
        return dequantize_4bit(self.weight, state)


KINDS: dict[Bits, type[QuantizedLinear]] = {"int8": Int8Linear, "nf4": Nf4Linear}


def check_package(bits: str) -> None:
    """Raises ValueError: the package that quantizes is not installed."""
    if bits == "nf4" and find_spec("bitsandbytes") is None:
        raise ValueError(
            "train.finetune.frozen_dtype is nf4, and bitsandbytes is not installed; pip install "
            "'reelpack[quantized]', or set frozen_dtype=int8"
        )


def quantize(model: nn.Module, bits: Bits) -> None:
    """Quantize linear layers of the model's blocks that do not train; the rest, a small share, stays as it is.

    Raises:
        ValueError: the package that quantizes is not installed.
    """
    check_package(bits)
    for name, parent in list(model.named_modules()):
        for child, layer in list(parent.named_children()):
            in_blocks = f"{name}.{child}".startswith("blocks.")
            if in_blocks and isinstance(layer, nn.Linear) and not layer.weight.requires_grad:
                setattr(parent, child, KINDS[bits](layer))


def dequantize(model: nn.Module) -> None:
    """Plain layers with the values of the quantized ones."""
    for parent in list(model.modules()):
        for child, layer in list(parent.named_children()):
            if isinstance(layer, QuantizedLinear):
                setattr(parent, child, layer.plain())


def num_parameters(model: nn.Module) -> int:
    """Weights, however many of them a number holds."""
    return sum(p.numel() for p in model.parameters()) + sum(
        layer.in_features * layer.out_features - layer.weight.numel() for layer in _quantized_layers(model)
    )


def frozen_bytes(model: nn.Module) -> int:
    """Of what does not train."""
    return sum(p.nbytes for p in model.parameters() if not p.requires_grad) + sum(
        layer.scales.nbytes for layer in _quantized_layers(model)
    )


def _quantized_layers(model: nn.Module) -> Iterator[QuantizedLinear]:
    return (module for module in model.modules() if isinstance(module, QuantizedLinear))
