"""Weights from a user's file into a module: what does not fit is one message."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

MAX_NAMED = 8


@contextmanager
def parameters_on_meta() -> Iterator[None]:
    """Modules that are built inside hold no memory for their parameters; their buffers are as always."""
    register = nn.Module.register_parameter

    def without_memory(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None:
            parameter = nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)
        register(module, name, parameter)

    nn.Module.register_parameter = without_memory
    try:
        yield
    finally:
        nn.Module.register_parameter = register


def load_state(module: nn.Module, state: Mapping[str, Tensor], *, assign: bool = False) -> None:
    """Fill all of a module; with `assign` its parameters become the tensors themselves, of whatever type.

    Raises:
        ValueError: names tensors that are missing, unknown or of another shape.
    """
    if wrong := misfits(module, state):
        raise ValueError(wrong)
    module.load_state_dict(state, assign=assign)


def misfits(module: nn.Module, state: Mapping[str, Tensor]) -> str:
    """What of `state` is not as in a module; empty where all is."""
    ours = module.state_dict()
    shapes = [
        f"{name} {tuple(state[name].shape)} (expected {tuple(ours[name].shape)})"
        for name in sorted(state.keys() & ours.keys())
        if state[name].shape != ours[name].shape
    ]
    missing, unknown = sorted(ours.keys() - state.keys()), sorted(state.keys() - ours.keys())
    found = {"it lacks": missing, "unknown are": unknown, "of another shape are": shapes}
    return "; ".join(f"{what} {some(names)}" for what, names in found.items() if names)


def some(names: Iterable[str]) -> str:
    """The first of many names."""
    names = list(names)
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more
