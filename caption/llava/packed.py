"""Linear layers whose weights are packed once, for float32 on CPUs.

oneDNN multiplies by weights in blocks, and `torch.nn.Linear` arranges them at every call. With the 16 or 32 rows of a
decoding step that takes as long as the product.
"""

import torch


class PackedLinear(torch.nn.Module):
    """A linear layer without a bias, in inference alone; equal to `linear` to rounding."""

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(..., inputs) to (..., outputs)."""
        outputs: torch.Tensor = torch.ops.mkldnn._linear_pointwise(inputs, self._packed, None, "none", [], "")
        return outputs


def pack_linears(module: torch.nn.Module) -> None:
    """Packs the layers in a module that can be packed, in place. Other layers stay."""
    if not torch.backends.mkldnn.is_available():
        return
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if _can_be_packed(child):
                setattr(parent, name, PackedLinear(child))


def _can_be_packed(module: torch.nn.Module) -> bool:
    if type(module) is not torch.nn.Linear or module.bias is not None:
        return False
    return module.weight.dtype == torch.float32 and module.weight.device.type == "cpu"
