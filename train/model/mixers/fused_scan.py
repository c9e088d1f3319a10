"""The selective scan by a kernel of flash-linear-attention, on CUDA: `chunk_simple_gla` of `fla.ops.simple_gla`.

What was read of fla-core 0.6.0: q and k are (1, G, H, N), v is (1, G, H, P), g is (1, G, H); S_i = exp(g_i) S_(i-1) +
k_i v_iᵀ and o_i = scale · q_iᵀ S_i, where `scale` is 1 / sqrt(N) unless it is given; `cu_seqlens` (S + 1,) int64
begins a state at each segment and needs a batch of one row; `cu_seqlens_cpu` is the same on the host; it returns o and
a final state. So q is c, k is b, v is x times the step, and g is the logarithm of the decay: softplus and bias of the
step, the sign of the rate and the skip stay in `Mamba`, and a backward direction is a window layout. Its chunk is its
own.

Not run on a GPU. A test gives the call to a recurrence of the same signature.
"""

from importlib.util import find_spec

import torch
from torch import Tensor

from train.packing.segments import Segments


def check_package() -> None:
    """See that the kernel is installed where there is a GPU.

    Raises:
        ValueError: it is not.
    """
    if torch.cuda.is_available() and find_spec("fla") is None:
        raise ValueError(
            "train.model.mixer.scan is fused, and fla-core is not installed; pip install 'reelpack[fused]', or set "
            "train.model.mixer.scan=torch"
        )


@torch.compiler.disable
def fused_scan(x: Tensor, log_decay: Tensor, b: Tensor, c: Tensor, segments: Segments) -> Tensor:
    """What `selective_scan` computes: (G, H, P) of x (G, H, P), log_decay (G, H) float32, b and c (G, N)."""
    from fla.ops.simple_gla import chunk_simple_gla

    k, q = (y[None, :, None].expand(1, len(x), x.shape[1], -1).to(x.dtype) for y in (b, c))  # (1, G, H, N)
    ends = {"cu_seqlens": segments.cu_seqlens.long(), "cu_seqlens_cpu": segments.host.ends.long()}
    y: Tensor = chunk_simple_gla(q, k, x[None], g=log_decay[None], scale=1.0, **ends)[0]
    return y[0]
