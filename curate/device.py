"""The device that a model runs on."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def pick_device(name: str, *, setting: str = "device", worker: "torch.device | None" = None) -> "torch.device":
    """`auto` is CUDA where this process has it, else the CPU; any other name is torch's.

    Args:
        name: auto, cpu, cuda or cuda:<n>.
        setting: the key that has this value, for messages.
        worker: the device of the training process; it is taken where `name` allows its type.

    Raises:
        ValueError: torch knows no such device, or this machine has none.
    """
    import torch

    if worker is not None and name in ("auto", worker.type):
        return worker
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"{setting}: got {name!r}; expected auto, cpu, cuda or cuda:<n>") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"{setting}: got {name}, and torch finds no CUDA device on this machine; set it to auto or cpu, or "
            "install torch for CUDA"
        )
    return device


def with_index(device: "torch.device") -> "torch.device":
    """A CUDA device with its number: which one is the current one differs by thread, and it is the first in a
    loader's."""
    import torch

    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device
