"""Which parameters training changes."""

from torch import nn


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters with `requires_grad`, by name.

    Optimizer, average, checkpoints, memory estimate and throughput monitor handle these alone: a frozen base with
    trained adapters stores the adapters. Freeze before the model is parallelized.

    Raises:
        ValueError: every parameter is frozen.
    """
    found = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not found:
        raise ValueError("every parameter of the model is frozen; leave at least one to train")
    return found
