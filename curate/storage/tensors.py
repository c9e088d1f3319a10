"""Arrays and tensors → safetensors: the one place of the project that writes them.

The format has no strides. `safetensors.numpy` writes an array's memory in storage order under the array's shape, so a
transposed view is read back scrambled, without an error; `safetensors.torch` refuses such a tensor. Files of its
`save_file` are their owner's alone (mode 0600, safetensors 0.8), whatever the umask says: nobody else on a cluster
could read a model.
"""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

os.umask(UMASK := os.umask(0o022))


def arrays_to_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays of any shape, strides and byte order as the bytes of a safetensors file; equal arrays, equal bytes."""
    from safetensors.numpy import save

    return save({name: np.asarray(array, order="C") for name, array in arrays.items()})


def tensors_to_bytes(tensors: Mapping[str, "torch.Tensor"]) -> bytes:
    """Tensors of any shape, strides and device as the bytes of a safetensors file; equal tensors, equal bytes."""
    from safetensors.torch import save

    return save(_packed(tensors))


def write_tensors(
    tensors: Mapping[str, "torch.Tensor"], path: str | os.PathLike[str], metadata: dict[str, str] | None = None
) -> None:
    """Tensors of any shape, strides and device as a safetensors file at `path`, readable by whom any new file is."""
    from safetensors.torch import save_file

    save_file(_packed(tensors), path, metadata=metadata)
    os.chmod(path, 0o666 & ~UMASK)


def _packed(tensors: Mapping[str, "torch.Tensor"]) -> "dict[str, torch.Tensor]":
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
