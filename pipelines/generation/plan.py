"""What a generator draws of each video that is asked, and which are drawn together."""

import math
from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

from train.packing.patches import grid_size
from train.run.config import TrainConfig
from train.run.folder import RunRecord
from train.sampling.cascade import Stage
from train.sampling.config import SampleConfig
from train.sampling.generate import packs_to_generate
from train.sampling.request import Request, latent_shape
from train.sampling.slide import Slide


class Plan(NamedTuple):
    """What the first stage draws: a video, or the first window of a long one."""

    request: Request
    slide: Slide | None
    stages: Sequence[Stage]
    """Of a cascade; none: one run draws."""

    @property
    def group(self) -> Hashable:
        """Equal of what can be drawn together."""
        return self.slide, tuple(stage.shape for stage in self.stages)


def drawn_together(
    plans: Sequence[Plan], config: SampleConfig, train_config: TrainConfig, record: RunRecord
) -> Iterator[list[int]]:
    """Numbers of plans. Long videos are finished pack by pack, so that an interruption leaves those before."""
    groups: dict[Hashable, list[int]] = {}
    for number, plan in enumerate(plans):
        groups.setdefault(plan.group, []).append(number)
    for numbers in groups.values():
        if plans[numbers[0]].slide is None:
            yield numbers
            continue
        patch = train_config.model.patch
        shapes = [latent_shape(plans[number].request, record.latents, patch) for number in numbers]
        counts = [math.prod(grid_size(shape, patch)) for shape in shapes]
        for pack in packs_to_generate(counts, config, train_config.data.plan):
            yield [numbers[i] for i in pack]
