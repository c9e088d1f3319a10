"""A cascade of runs that turns what is asked into files, as one run does."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from pipelines.generation.asked import Asked
from pipelines.generation.generator import Generator, Plan
from train.autoencoder.config import AutoencoderConfig, autoencoder_of
from train.autoencoder.pixels import decode_latent
from train.run.folder import checkpoint_steps, run_folder
from train.sampling.cascade import Stage, draw_stages, plan_stages
from train.sampling.config import SampleConfig
from train.sampling.given import Given
from train.sampling.given_files import GivenFiles
from train.sampling.read_given import read_given
from train.sampling.request import Request
from train.sampling.sample import Generated


class CascadeGenerator(Generator):
    """Args:
    runs: Directories of training runs, the first draws from the prompts alone.
    config: Which weights and device.
    autoencoder: What decodes the last latents; None: what made those that the last run was trained on.

    Raises:
        ValueError: A run that is none, or that cannot be sampled here.
    """

    def __init__(
        self, runs: Sequence[str], config: SampleConfig, autoencoder: AutoencoderConfig | None = None
    ) -> None:
        super().__init__(runs[-1], config, autoencoder)
        self.runs, self._known = runs, dict[tuple[int, int, int], list[Stage]]()
        self.steps = [checkpoint_steps(run_folder(run))[-1] for run in runs]

    @property
    def name(self) -> str:
        return " + ".join(run_folder(run).name for run in self.runs)

    def check(self, asked: Asked, config: SampleConfig) -> None:
        request = self._request(asked)
        first, *_ = plan_stages(self.runs, request, config)
        if asked.given and asked.given == GivenFiles(start=asked.given.start):  # files are not read yet: of one patch
            given = Given(start=torch.empty(0, first.config.model.patch[0]))
            plan_stages(self.runs, replace(request, given=given), config)

    def rate(self, asked: Asked, config: SampleConfig) -> float:
        return self._stages(self._request(asked), config)[-1].settings.fps or 0.0

    def settings(self, asked: Asked, config: SampleConfig) -> dict[str, Any]:
        return super().settings(asked, config) | {"steps": self.steps}

    def _stages(self, request: Request, config: SampleConfig) -> list[Stage]:
        """Of all videos of this size and length."""
        key = shape_of(request)
        if key not in self._known:
            self._known[key] = plan_stages(self.runs, request, config)
        return self._known[key]

    def _with_inputs(self, asked: Asked, config: SampleConfig) -> Plan:
        request = self._request(asked)
        if not asked.given:
            return request, None
        first, *_ = self._stages(request, config)
        encoder, fps = autoencoder_of(first.record.latents), first.settings.fps or first.record.fps
        own = first.request(request, 0, None)
        return replace(request, given=read_given(asked.given, own, first.config, first.record, encoder, fps)), None

    def _drawn(
        self, plans: Sequence[Plan], config: SampleConfig, on_progress: Callable[[float], None] | None
    ) -> Iterator[tuple[int, Generated, np.ndarray]]:
        """Videos of one size and length together: their stages are loaded one after the other."""
        done = 0
        for shape in dict.fromkeys(shape_of(request) for request, _ in plans):
            numbers = [number for number, (request, _) in enumerate(plans) if shape_of(request) == shape]
            requests = [plans[number][0] for number in numbers]
            for i, result, _ in draw_stages(self._stages(requests[0], config), requests):
                yield numbers[i], result, decode_latent(self.decoder, result.latent)
                done += 1
                if on_progress is not None:
                    on_progress(done / len(plans))


def shape_of(request: Request) -> tuple[int, int, int]:
    return request.num_frames, request.height, request.width
