"""VQ: the nearest vector of a codebook (van den Oord et al. 2017, "Neural Discrete Representation Learning").

Section 3.2: the decoder's gradient passes straight through to the encoder (equation 3), which is drawn to its codes by
the commitment loss. The codebook follows the encoder's outputs as in appendix A.1: averages of the number of outputs
that a code was nearest to, and of their sum. A code that is hardly ever the nearest is put on an output of the encoder
(random restart: Dhariwal et al. 2020, Jukebox, section 3.1), so that the codebook does not collapse.
"""

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from train.autoencoder.bottlenecks.base import Bottleneck, Coded, usage
from train.autoencoder.bottlenecks.config import VQConfig

EPSILON = 1e-5
ROWS = 8192
"""Positions whose distances to all codes are in memory at a time."""


class VQ(Bottleneck):
    """The codebook (K, C) and what it follows are buffers: they are saved, and no optimizer changes them."""

    codebook: Tensor
    counts: Tensor
    sums: Tensor
    is_begun: Tensor

    def __init__(self, config: VQConfig, latent_channels: int) -> None:
        super().__init__()
        self.config = config
        self.num_channels = self.num_inputs = latent_channels
        self.num_codes: int = config.codebook_size
        codebook = torch.randn(config.codebook_size, latent_channels) / latent_channels**0.5
        self.register_buffer("codebook", codebook)
        self.register_buffer("counts", torch.ones(config.codebook_size))
        self.register_buffer("sums", codebook.clone())
        self.register_buffer("is_begun", torch.zeros((), dtype=torch.bool))

    def code(self, x: Tensor, noise: torch.Generator) -> Coded:
        outputs = x.float()
        ids = self.nearest(outputs.detach())
        codes = self.vectors(ids)
        distance = F.mse_loss(outputs, codes)
        return Coded(
            latent=outputs + (codes - outputs).detach(),  # straight through
            loss=self.config.commitment * distance,
            metrics={"commitment": distance.detach(), **usage(ids, self.num_codes)},
            updates={"outputs": _rows(outputs.detach()), "ids": ids.flatten()},
        )

    def latent(self, x: Tensor) -> Tensor:
        # NaN is nearest to nothing: it stays NaN.
        return torch.where(x.isfinite().all(1, keepdim=True), self.vectors(self.nearest(x.float())), torch.nan)

    @torch.no_grad()
    def update(self, coded: Coded, noise: torch.Generator) -> None:
        """Move the codes to the means of what they were nearest to, and put idle ones on outputs of this batch.

        With several ranks every rank has the sums of all, and the outputs that idle codes are put on are rank 0's.
        """
        outputs, ids = coded.updates["outputs"], coded.updates["ids"]
        if not self.is_begun:
            self._begin(outputs, noise)
            return
        counts = torch.bincount(ids, minlength=self.num_codes).float()
        sums = torch.zeros_like(self.sums).index_add_(0, ids, outputs)
        for total in (counts, sums):
            _add_ranks(total)
        self.counts.lerp_(counts, 1 - self.config.decay)
        self.sums.lerp_(sums, 1 - self.config.decay)
        mean = self.counts.mean()
        idle = self.counts < self.config.revive_below * mean
        self.sums.copy_(torch.where(idle[:, None], mean * self._drawn(outputs, noise), self.sums))
        self.counts.copy_(torch.where(idle, mean, self.counts))
        self.codebook.copy_(self.sums / self.counts.clamp(min=EPSILON)[:, None])

    def ids(self, latent: Tensor) -> Tensor:
        return self.nearest(latent.double())  # codes may be as near to each other as float16 tells apart

    def tables(self) -> tuple[Tensor, ...]:
        return (self.codebook,)

    def nearest(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) to the numbers (B, T, H, W) int64 of the nearest codes, computed in the type of `x`."""
        codes = self.codebook.to(x.dtype)
        squares = codes.square().sum(1)
        # |x - c|² without |x|², which is the same for every code
        found = [(squares - 2 * (rows @ codes.T)).argmin(1) for rows in _rows(x).split(ROWS)]
        return torch.cat(found).view(x.shape[0], *x.shape[2:])

    def _begin(self, outputs: Tensor, noise: torch.Generator) -> None:
        """The first codes are outputs of the encoder."""
        drawn = self._drawn(outputs, noise)
        for buffer in (self.codebook, self.sums):
            buffer.copy_(drawn)
        self.counts.fill_(1.0)
        self.is_begun.fill_(True)

    def _drawn(self, outputs: Tensor, noise: torch.Generator) -> Tensor:
        """(K, C) outputs that are drawn with replacement; those of rank 0 on every rank."""
        chosen = torch.randint(len(outputs), (self.num_codes,), generator=noise)
        drawn = outputs[chosen.to(outputs.device)].contiguous()
        if _has_ranks():
            dist.broadcast(drawn, src=0)
        return drawn


def _rows(x: Tensor) -> Tensor:
    """(B, C, T, H, W) to (B · T · H · W, C)."""
    return x.movedim(1, -1).flatten(0, -2)


def _has_ranks() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _add_ranks(total: Tensor) -> None:
    if _has_ranks():
        dist.all_reduce(total)
