"""Models of equal numbers of parameters: the width decides."""

from bisect import bisect_left
from dataclasses import asdict, dataclass

import torch
from pydantic import ValidationError

from train.run.config import TrainConfig

CLOSE_ENOUGH = 0.05
"""Share by which numbers of parameters may differ where they are to be equal."""
WIDEST = 8
"""Widths are tried up to so many times that of the settings."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """Of the dataset: channels of its latents, features of its text states."""

    channels: int
    text_dim: int

    def num_parameters(self, config: TrainConfig) -> int:
        """Of the model as it would be trained; nothing is allocated."""
        sizes = {**asdict(self), "num_outputs": config.objective.num_outputs}
        with torch.device("meta"):
            model = config.model.build(**sizes)
        return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def of_equal_width(sizes: Sizes, name: str, config: TrainConfig, target: int) -> TrainConfig:
    """The settings with the width that brings parameters nearest to `target`.

    Raises:
        ValueError: the nearest is not near enough.
    """
    tried = (_of_width(config, width) for width in range(1, WIDEST * config.model.width + 1))
    valid = [one for one in tried if one is not None]  # parameters grow with the width
    above = bisect_left(valid, target, key=sizes.num_parameters)
    near = {sizes.num_parameters(one): one for one in valid[max(0, above - 1) : above + 1]}
    nearest = min(near, key=lambda count: abs(count - target))
    if abs(nearest - target) > CLOSE_ENOUGH * target:
        told = " and ".join(f"{count:,} parameters at width {one.model.width}" for count, one in near.items())
        raise ValueError(
            f"{name}: got {told}, expected about {target:,}; change its depth, or what its width must be a multiple "
            "of, such as heads or groups; or leave --match-parameters out"
        )
    return near[nearest]


def _of_width(config: TrainConfig, width: int) -> TrainConfig | None:
    """None: the model does not take it."""
    try:
        model = config.model.model_validate(config.model.model_dump() | {"width": width})
    except ValidationError:
        return None
    return config.model_copy(update={"model": model})
