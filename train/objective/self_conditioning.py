"""Self-conditioning: a model reads its own estimate of x_0 ("Analog Bits", Chen et al. 2022, §3.2; W.A.L.T, Gupta et
al. 2023, §3.3).

In training, a pass without gradients makes the estimate, and some samples are shown it. In sampling, it is that of the
evaluation before. It comes in as a conditioning latent of the pack.
"""

from dataclasses import replace

from torch import Tensor

from train.model.base_config import ESTIMATE
from train.packing.batch import PackedBatch

LIMIT = 5.0
"""Largest value of an estimate that is shown, in standard deviations of the latents. That of a prediction of ε is the
error times sigma / alpha, about 160 at the last timestep of DDPM."""


def shown(batch: PackedBatch, x_0: Tensor) -> PackedBatch:
    """The pack with an estimate, (L, P), that the model reads. Given tokens have none: zeros."""
    estimate = x_0.clamp(-LIMIT, LIMIT) * batch.loss_mask[:, None]
    return replace(batch, conditioning={**batch.conditioning, ESTIMATE: estimate})
