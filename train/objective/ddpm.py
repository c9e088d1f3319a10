"""Denoising diffusion (Ho et al. 2020) as DiT trains it (Peebles & Xie 2023, §3.1): discrete timesteps, any of the
usual predictions, learned variances.

x_t = a_t x_0 + b_t ε with a_t² = ᾱ_t, b_t² = 1 - ᾱ_t. Timestep number i of T is passed on as i / T, so that the model,
which multiplies by 1000, sees the published code's integers at T = 1000.
"""

import math
from functools import cached_property
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from train.objective.reduction import Reduction, count, loss_sum
from train.segments import PackedBatch


class DDPMConfig(BaseModel):
    """The noise schedule, what is predicted, and how timesteps are weighed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["ddpm"] = "ddpm"
    num_timesteps: int = Field(1000, ge=2, description="T")
    schedule: Literal["linear", "cosine"] = Field(
        "linear", description="linear: β from 1e-4 to 0.02 (Ho et al. §4); cosine: Nichol & Dhariwal 2021, §3.2"
    )
    zero_terminal_snr: bool = Field(
        False, description="rescale so that x_T is pure noise (Lin et al. 2024, §3.1); needs prediction v or x0"
    )
    prediction: Literal["epsilon", "v", "x0"] = Field("epsilon", description="what the model predicts")
    learn_sigma: bool = Field(
        False, description="predict variances too, by the hybrid loss of Nichol & Dhariwal 2021, §3.1, as DiT does"
    )
    min_snr_gamma: float | None = Field(
        None, gt=0, description="weigh a timestep by min(SNR, γ), relative to the prediction (Hang et al. 2023, §3.4)"
    )
    reduction: Reduction = Field("sample", description="a step's loss is the mean over its samples, or its tokens")

    @model_validator(mode="after")
    def _noise_can_be_told_from_data(self) -> "DDPMConfig":
        if self.zero_terminal_snr and self.prediction == "epsilon":
            raise ValueError(
                "zero_terminal_snr: at the last timestep x_T is ε itself, so predicting epsilon teaches "
                "nothing; set prediction to v or x0"
            )
        if self.learn_sigma and self.prediction != "epsilon":
            raise ValueError(f"learn_sigma is defined with prediction epsilon, got {self.prediction}")
        return self

    def build(self) -> "DDPM":
        return DDPM(self)


class DDPM:
    """Draws timesteps, makes noisy tokens, compares predictions."""

    def __init__(self, config: DDPMConfig) -> None:
        self.config = config

    @cached_property
    def alphas_cumprod(self) -> Tensor:
        """ᾱ of each timestep, (T,) float64."""
        return (1 - betas(self.config)).cumprod(0)

    def draw_timestep(self, generator: torch.Generator, num_tokens: int) -> float:
        """i / T, i uniform."""
        total = self.config.num_timesteps
        return int(torch.randint(total, (), generator=generator)) / total

    def token_losses(self, model: nn.Module, batch: PackedBatch) -> Tensor:
        """Weighted squared error of each token's prediction, with learned variances plus its bound: (L,) float32."""
        index = (batch.row_timesteps * self.config.num_timesteps).round().long()  # (R,)
        signal, noise = self._signal_and_noise(index, batch)  # 2 × (L, 1)
        x_t = signal * batch.tokens + noise * batch.noise  # (L, P)
        output = model(x_t, batch.timesteps, batch).float()  # (L, P), with learned variances (L, 2 P)
        prediction, variance = output.chunk(2, -1) if self.config.learn_sigma else (output, None)
        target = {
            "epsilon": batch.noise,
            "v": signal * batch.noise - noise * batch.tokens,
            "x0": batch.tokens,
        }[self.config.prediction]
        losses = (prediction - target).square().mean(-1) * self._weights(index).to(output)[batch.row_ids]
        if variance is not None:
            losses = losses + self._variational_bound(x_t, prediction.detach(), variance, index, batch)
        return losses * batch.loss_mask

    def loss_sum(self, token_losses: Tensor, batch: PackedBatch) -> Tensor:
        return loss_sum(token_losses, batch, self.config.reduction)

    def count(self, num_samples: int, num_tokens: int) -> int:
        return count(num_samples, num_tokens, self.config.reduction)

    def _signal_and_noise(self, index: Tensor, batch: PackedBatch) -> tuple[Tensor, Tensor]:
        """a_t and b_t per token, each (L, 1) float32; given tokens are clean."""
        cumulative = self.alphas_cumprod.to(index.device)[index]  # (R,)
        signal, noise = (x.sqrt().float()[batch.row_ids, None] for x in (cumulative, 1 - cumulative))
        free = batch.loss_mask[:, None]
        return torch.where(free, signal, 1.0), torch.where(free, noise, 0.0)

    def _weights(self, index: Tensor) -> Tensor:
        """Weight of each row's loss: (R,) float64."""
        cumulative = self.alphas_cumprod.to(index.device)[index]
        gamma = self.config.min_snr_gamma
        if gamma is None:
            return torch.ones_like(cumulative)
        snr = cumulative / (1 - cumulative)
        clipped = snr.clamp(max=gamma)
        return {"x0": clipped, "epsilon": clipped / snr, "v": clipped / (snr + 1)}[self.config.prediction]

    def _variational_bound(
        self, x_t: Tensor, epsilon: Tensor, variance: Tensor, index: Tensor, batch: PackedBatch
    ) -> Tensor:
        """L_vlb's term at each token's timestep in bits per feature, the mean frozen: (L,).

        Nichol & Dhariwal weigh the sum over T terms by 0.001; at T = 1000 one drawn term weighs 1, as in DiT's code.
        """
        posterior = _Posterior.of(self.alphas_cumprod, index, batch)
        x_0 = (x_t - posterior.noise * epsilon) / posterior.signal
        mean = posterior.from_x0 * x_0 + posterior.from_xt * x_t
        true_mean = posterior.from_x0 * batch.tokens + posterior.from_xt * x_t
        fraction = (variance + 1) / 2
        log_variance = fraction * posterior.log_beta + (1 - fraction) * posterior.log_variance
        ratio = posterior.log_variance - log_variance
        divergence = 0.5 * (-1 - ratio + ratio.exp() + (true_mean - mean).square() * (-log_variance).exp())
        # The last step has no posterior: the likelihood of the data itself, in bins of 1/255 as in the published code.
        likelihood = -_discretized_log_likelihood(batch.tokens, mean, 0.5 * log_variance)
        bound = torch.where(posterior.is_last, likelihood, divergence).mean(-1) / math.log(2)
        return bound * (self.config.num_timesteps / 1000)


class _Posterior:
    """q(x_{t-1} | x_t, x_0) per token (Ho et al. 2020, eq. 6-7); each (L, 1) float32."""

    def __init__(self, **parts: Tensor) -> None:
        self.signal, self.noise = parts["signal"], parts["noise"]
        self.from_x0, self.from_xt = parts["from_x0"], parts["from_xt"]
        self.log_beta, self.log_variance, self.is_last = parts["log_beta"], parts["log_variance"], parts["is_last"]

    @classmethod
    def of(cls, alphas_cumprod: Tensor, index: Tensor, batch: PackedBatch) -> "_Posterior":
        before = torch.cat([torch.ones(1, dtype=torch.float64), alphas_cumprod[:-1]])
        alphas = alphas_cumprod / before
        variance = (1 - alphas) * (1 - before) / (1 - alphas_cumprod)
        table = {
            "signal": alphas_cumprod.sqrt(),
            "noise": (1 - alphas_cumprod).sqrt(),
            "from_x0": before.sqrt() * (1 - alphas) / (1 - alphas_cumprod),
            "from_xt": alphas.sqrt() * (1 - before) / (1 - alphas_cumprod),
            "log_beta": (1 - alphas).log(),
            "log_variance": torch.cat([variance[1:2], variance[1:]]).log(),  # 0 at the first: takes the second's
        }
        rows = {name: values.to(index.device)[index].float() for name, values in table.items()}
        parts = {name: values[batch.row_ids, None] for name, values in rows.items()}
        return cls(is_last=(index == 0)[batch.row_ids, None], **parts)


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
