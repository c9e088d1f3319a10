"""What a distance of frames is: what a network sees of the difference between two pictures."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor


class FrameDistance(Protocol):
    """A frozen network. Its distance is 0 for equal frames, and gradients reach the frames."""

    name: str
    """Of the figure: it says what measured it, such as `lpips_squeeze`."""
    min_side_px: int
    """Frames with a smaller side give the network nothing to see."""

    def __call__(self, frames: Tensor, others: Tensor) -> Tensor:
        """Both (N, 3, H, W) in [-1, 1], to distances (N,) float32."""
        ...


def state_dict_at(path: str) -> dict[str, Tensor]:
    """Tensors by name of a file: safetensors, or what `torch.save` wrote of a `state_dict()`.

    Raises:
        ValueError: there is no file, or it is neither of them.
    """
    from pickle import UnpicklingError

    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not Path(path).is_file():
        raise ValueError(f"weights of a backbone: {path} is no file; expected a state dict, .safetensors or .pth")
    try:
        if Path(path).suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, LookupError, ValueError) as error:
        raise ValueError(f"weights of a backbone: {path} cannot be read ({error}); expected a state dict") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"weights of a backbone: {path} holds no state dict; save `model.state_dict()` alone")
    return state


def load_whole(
    module: torch.nn.Module,
    state: dict[str, Tensor],
    path: str,
    what: str,
    name_in_file: Callable[[str], str] = lambda name: name,
) -> None:
    """Load every tensor of `module`, and freeze it; further tensors of `state` are left.

    Raises:
        ValueError: a tensor is missing, or has another shape.
    """
    found = {name: state.get(name_in_file(name)) for name in module.state_dict()}
    for name, own in module.state_dict().items():
        given = found[name]
        if given is None:
            raise ValueError(f"{path}: there is no {name_in_file(name)}; expected the state dict of {what}")
        if given.shape != own.shape:
            raise ValueError(
                f"{path}: {name_in_file(name)} has the shape {tuple(given.shape)}, that of {what} {tuple(own.shape)}"
            )
    module.load_state_dict(found)
    module.eval().requires_grad_(False)
