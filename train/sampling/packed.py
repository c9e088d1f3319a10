"""One pack on its way between data and noise: a model under guidance, as a sampler asks it."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from train.data.generator import keyed_generator
from train.model.config import ModelConfig
from train.objective.base import Estimate, NoiseLevel, Objective
from train.packing.batch import PackedBatch, Sample, pack, unpack
from train.packing.patches import patchify
from train.sampling.config import SampleConfig
from train.sampling.guidance.compose import GuidedModel, Network, Prediction
from train.sampling.samplers.base import ReverseProcess


class PackedProcess:
    """Samples in one pack; arguments and errors as of `generate`.

    Attributes:
        process: what a sampler is given. Its levels are the last ones, where `config.strength` is below 1.
        clean: (L, P) tokens of the samples' latents.
        guided: the model under the rules.
    """

    def __init__(
        self,
        model: Network,
        samples: Sequence[Sample],
        objective: Objective,
        config: SampleConfig,
        shape: ModelConfig,
        text_dim: int,
        device: torch.device,
        *,
        weaker: tuple[Network, ModelConfig] | None = None,
        negatives: Sequence[Tensor | None] | None = None,
        seeds: Sequence[int] | None = None,
        on_progress: Callable[[float], None] | None = None,
    ) -> None:
        config.check_objective(objective.config)
        self._whole = pack(samples, shape.patch, text_dim, shape.conditions)
        self._segments, self._samples = self._whole.segments.to(device), samples
        self._objective, self._patch, self._on_progress = objective, shape.patch, on_progress
        self._free, self.clean, self._noise = (
            x.to(device) for x in (self._whole.loss_mask[:, None], self._whole.tokens, self._whole.noise)
        )
        keys = zip(seeds or [config.seed] * len(samples), samples, strict=True)
        self._generators = [keyed_generator("ancestral", seed, sample.clip_id) for seed, sample in keys]

        def prediction(network: Network, shape: ModelConfig) -> Prediction:
            def packed(branches: Sequence[Sample]) -> PackedBatch:
                return shape.prepare(pack(branches, shape.patch, text_dim, shape.conditions)).to(device)

            return Prediction(network=network, packed=packed, reads_estimate=shape.self_conditioning > 0)

        self.guided = GuidedModel(
            prediction(model, shape),
            samples,
            config.guidance,
            config.combination,
            weaker=None if weaker is None else prediction(*weaker),
            negatives=negatives,
        )
        self._begins_with_noise = config.num_last_steps == config.num_steps
        levels = objective.levels(config.num_steps, self._segments.lengths)[-config.num_last_steps - 1 :]
        self._done = {id(level): number / config.num_last_steps for number, level in enumerate(levels)}
        self.process = ReverseProcess(
            levels=levels, estimate=self._estimate, spread=self._spread, draw_noise=self._draw_noise
        )

    @property
    def start(self) -> Tensor:
        """x (L, P) at the first level: the samples' noise, or their latents with as much noise."""
        if self._begins_with_noise:
            return self._noise
        level = self.process.levels[0]
        return self._spread(level.alpha) * self.clean + self._spread(level.sigma) * self._noise

    def latents(self, x: Tensor) -> list[Tensor]:
        """Data (L, P) as one latent (C, T, H, W) per sample, on the CPU; conditioning tokens are the samples'."""
        return unpack(torch.where(self._free, x, self.clean).cpu(), self._whole, self._patch)

    def mean(self, values: Tensor) -> Tensor:
        """(L, P) to the mean of each sample, (S,) float32."""
        return self._segments.mean(values).mean(1)

    def _estimate(self, x: Tensor, level: NoiseLevel) -> Estimate:
        if self._on_progress is not None and id(level) in self._done:
            self._on_progress(self._done[id(level)])
        alpha, sigma = self._spread(level.alpha), self._spread(level.sigma)
        # For branches that drop conditioning frames.
        x = torch.where(self._free, x, alpha * self.clean + sigma * self._noise)

        def data_of(output: Tensor, x: Tensor) -> Tensor:
            return self._objective.estimate(output, x, alpha, sigma).x_0

        found = self._objective.estimate(self.guided(x, level, self._spread, data_of), x, alpha, sigma)
        # In a branch without given frames, too, they have none.
        self.guided.show(torch.where(self._free, found.x_0, 0.0).detach())
        return found

    def _spread(self, values: Tensor) -> Tensor:
        device = self.clean.device
        return self._segments.gather(values.to(self.clean.dtype).to(device, non_blocking=True))[:, None]

    def _draw_noise(self) -> Tensor:
        """Of latents, as in training: the copies of a frame that fills a tubelet by being repeated have one noise."""
        pairs = zip(self._samples, self._generators, strict=True)
        drawn = [torch.randn(sample.latent.shape, generator=g) for sample, g in pairs]
        return torch.cat([patchify(latent, self._patch) for latent in drawn]).to(self._noise)
