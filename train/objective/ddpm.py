"""Denoising diffusion (Ho et al. 2020) as DiT trains it (Peebles & Xie 2023, §3.1): discrete timesteps, any of the
usual predictions, learned variances.

x_t = a_t x_0 + b_t ε with a_t² = ᾱ_t, b_t² = 1 - ᾱ_t. Timestep number i of T is passed on as i / T, so that the model,
which multiplies by 1000, sees the published code's integers at T = 1000.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from train.objective.base import Estimate, NoiseLevel
from train.objective.ddpm_config import DDPMConfig
from train.objective.posterior import posterior
from train.objective.reduction import ReducedObjective
from train.packing.batch import PackedBatch
from train.packing.segments import map_tensors


class DDPM(ReducedObjective):
    """Draws timesteps, makes noisy tokens, compares predictions."""

    def __init__(self, config: DDPMConfig) -> None:
        super().__init__(config.reduction)
        self.config = config
        self._schedules: dict[torch.device, Schedule] = {}

    @cached_property
    def alphas_cumprod(self) -> Tensor:
        """ᾱ of each timestep, (T,) float64."""
        return (1 - betas(self.config)).cumprod(0)

    def draw_timestep(self, generator: torch.Generator, num_tokens: int) -> float:
        """i / T, i uniform."""
        total = self.config.num_timesteps
        return int(torch.randint(total, (), generator=generator)) / total

    def token_losses(self, model: nn.Module, batch: PackedBatch) -> Tensor:
        """Weighted squared error of each token's prediction, with learned variances plus its bound: (L,) float32.

        Raises:
            ValueError: on a CPU: a timestep above the last. (A GPU would be waited for; settings are checked before.)
        """
        index = (batch.condition_timesteps * self.config.num_timesteps).round().long()  # (R,)
        if index.device.type == "cpu" and int(index.max()) >= self.config.num_timesteps:
            self.config.check_timestep(float(batch.condition_timesteps.max()))
        schedule = self._schedule_on(index.device).at(index, batch.condition_ids)  # of (L, 1)
        free = batch.loss_mask[:, None]  # conditioning tokens are clean
        signal, noise = torch.where(free, schedule.signal, 1.0), torch.where(free, schedule.noise, 0.0)  # 2 × (L, 1)
        x_t = signal * batch.tokens + noise * batch.noise  # (L, P)
        output = self.predict(model, x_t, signal, noise, batch).float()  # (L, P), with learned variances (L, 2 P)
        prediction, variance = output.chunk(2, -1) if self.config.learn_sigma else (output, None)
        target = {
            "epsilon": batch.noise,
            "v": signal * batch.noise - noise * batch.tokens,
            "x0": batch.tokens,
        }[self.config.prediction]
        losses = (prediction - target).square().mean(-1) * schedule.weight[:, 0]
        if variance is not None:
            is_first = (index == 0)[batch.condition_ids, None]
            losses = losses + self._variational_bound(
                x_t, prediction.detach(), variance, schedule, is_first, batch.tokens
            )
        return losses * batch.loss_mask

    def levels(self, num_steps: int, lengths: Sequence[int]) -> list[NoiseLevel]:
        """Even steps of the timesteps' numbers, from the noisiest on (Lin et al. 2024, §3.3)."""
        self.config.check_num_steps(num_steps)
        total = self.config.num_timesteps
        numbers = [round(total * (num_steps - i) / num_steps) - 1 for i in range(num_steps)]
        cumulative = torch.cat([self.alphas_cumprod[numbers], torch.ones(1, dtype=torch.float64)])
        timesteps = torch.tensor([*(number / total for number in numbers), 0.0], dtype=torch.float32)
        columns = [column[:, None].expand(-1, len(lengths)) for column in (timesteps, cumulative)]  # (steps + 1, S)
        return [NoiseLevel(timesteps=t, alpha=a.sqrt(), sigma=(1 - a).sqrt()) for t, a in zip(*columns, strict=True)]

    def estimate(self, output: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Estimate:
        """Of a prediction (Salimans & Ho 2022, appendix D): all (L, P)."""
        y, variance = output.chunk(2, -1) if self.config.learn_sigma else (output, None)
        match self.config.prediction:
            case "epsilon":
                x_0, noise = (x - sigma * y) / alpha, y
            case "x0":
                x_0, noise = y, (x - alpha * y) / sigma
            case "v":
                x_0, noise = alpha * x - sigma * y, sigma * x + alpha * y
        return Estimate(x_0=x_0, noise=noise, velocity=noise - x_0, variance=variance)

    def _schedule_on(self, device: torch.device) -> "Schedule":
        """Moved once: tables that are moved for every pack make the device wait."""
        if device not in self._schedules:
            schedule = Schedule.of(self.alphas_cumprod, self.config)
            self._schedules[device] = map_tensors(schedule, lambda table: table.to(device))
        return self._schedules[device]

    def _variational_bound(
        self,
        x_t: Tensor,
        epsilon: Tensor,
        variance: Tensor,
        schedule: "Schedule",
        is_first: Tensor,
        x_0: Tensor,
    ) -> Tensor:
        """L_vlb's term at each token's timestep in bits per feature, the mean frozen: (L,).

        Nichol & Dhariwal weigh the sum over T terms by 0.001; at T = 1000 one drawn term weighs 1, as in DiT's code.
        """
        predicted_x_0 = (x_t - schedule.noise * epsilon) / schedule.signal
        mean = schedule.from_x0 * predicted_x_0 + schedule.from_xt * x_t
        true_mean = schedule.from_x0 * x_0 + schedule.from_xt * x_t
        fraction = (variance + 1) / 2
        log_variance = fraction * schedule.log_beta + (1 - fraction) * schedule.log_variance
        ratio = schedule.log_variance - log_variance
        divergence = 0.5 * (-1 - ratio + ratio.exp() + (true_mean - mean).square() * (-log_variance).exp())
        # The first timestep has no posterior: the likelihood of the data, in bins of 1/255 as in the published code.
        likelihood = -_discretized_log_likelihood(x_0, mean, 0.5 * log_variance)
        bound = torch.where(is_first, likelihood, divergence).mean(-1) / math.log(2)
        return bound * (self.config.num_timesteps / 1000)


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """What training needs of each timestep, (T,) float32, or of each token's, (L, 1)."""

    signal: Tensor  # √ᾱ
    noise: Tensor  # √(1 - ᾱ)
    from_x0: Tensor  # the posterior's mean is from_x0 · x_0 + from_xt · x_t
    from_xt: Tensor
    log_beta: Tensor
    log_variance: Tensor  # of the posterior; it is 0 at the first timestep, which takes the second's
    weight: Tensor  # of the loss

    @classmethod
    def of(cls, alphas_cumprod: Tensor, config: DDPMConfig) -> "Schedule":
        before = torch.cat([torch.ones(1, dtype=torch.float64), alphas_cumprod[:-1]])
        squares = (alphas_cumprod, 1 - alphas_cumprod, before, 1 - before)
        from_x0, from_xt, beta, variance = posterior(*(square.sqrt() for square in squares))
        schedule = cls(
            signal=alphas_cumprod.sqrt(),
            noise=(1 - alphas_cumprod).sqrt(),
            from_x0=from_x0,
            from_xt=from_xt,
            log_beta=beta.log(),
            log_variance=torch.cat([variance[1:2], variance[1:]]).log(),
            weight=_weights(alphas_cumprod, config),
        )
        return map_tensors(schedule, Tensor.float)

    def at(self, index: Tensor, condition_ids: Tensor) -> "Schedule":
        """Timesteps of the rows, (R,), and the row of each token, (L,), to the schedule of the tokens, (L, 1)."""
        return map_tensors(self, lambda table: table[index][condition_ids, None])


def _weights(alphas_cumprod: Tensor, config: DDPMConfig) -> Tensor:
    """Weight of the loss at each timestep: (T,)."""
    if config.min_snr_gamma is None:
        return torch.ones_like(alphas_cumprod)
    snr = alphas_cumprod / (1 - alphas_cumprod)
    clipped = snr.clamp(max=config.min_snr_gamma)
    return {"x0": clipped, "epsilon": clipped / snr, "v": clipped / (snr + 1)}[config.prediction]


def betas(config: DDPMConfig) -> Tensor:
    """β of each timestep, (T,) float64."""
    total = config.num_timesteps
    if config.schedule == "linear":
        values = torch.linspace(1e-4 * 1000 / total, 0.02 * 1000 / total, total, dtype=torch.float64).clamp(max=0.999)
    else:
        grid = torch.linspace(0, 1, total + 1, dtype=torch.float64)
        cumulative = torch.cos((grid + 0.008) / 1.008 * math.pi / 2).square()
        values = (1 - cumulative[1:] / cumulative[:-1]).clamp(max=0.999)
    return _zero_terminal_snr(values) if config.zero_terminal_snr else values


def _zero_terminal_snr(values: Tensor) -> Tensor:
    """Lin et al. 2024, algorithm 1: shift and scale √ᾱ so that the last is 0 and the first stays."""
    root = (1 - values).cumprod(0).sqrt()
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    cumulative = root.square()
    return 1 - cumulative / torch.cat([torch.ones(1, dtype=torch.float64), cumulative[:-1]])


def _discretized_log_likelihood(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """log P of x in [-1, 1] in 255 bins of a Gaussian (Ho et al. 2020, §3.3), elementwise."""
    centered, inverse = x - mean, (-log_scale).exp()
    upper, lower = (_normal_cdf(inverse * (centered + half)) for half in (1 / 255, -1 / 255))
    inside = (upper - lower).clamp(min=1e-12).log()
    return torch.where(
        x < -0.999,
        upper.clamp(min=1e-12).log(),
        torch.where(x > 0.999, (1 - lower).clamp(min=1e-12).log(), inside),
    )


def _normal_cdf(x: Tensor) -> Tensor:
    """The approximation of the published code, so that losses compare."""
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x.pow(3))))
