"""An adversary that tells videos from reconstructions, patch by patch.

PatchGAN (Isola et al. 2017, section 3.2.2) with the hinge loss, as in VQGAN (Esser et al. 2021, section 3.1); its
convolutions reach over time as well, so that flicker is told, too (Video LDM: Blattmann et al. 2023, section 3.1.1).
An image is a video of one frame.
"""

from itertools import pairwise
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.autoencoder.training.config import AdversaryConfig, TrainAutoencoderConfig
from train.distributed.ranks import RankGrid

NUM_GROUPS = 8
LOGITS_DECAY = 0.99
"""Of the averages that LeCam's regularization is anchored to."""
EPSILON = 1e-4
MOST_ADAPTIVE = 1e4


class Adversary(nn.Module):
    """(B, 3, T, H, W) in [-1, 1] to logits of patches, (B, 1, T, h, w): positive means a video."""

    logits: Tensor
    num_updates: Tensor

    def __init__(self, config: AdversaryConfig) -> None:
        super().__init__()
        self.config = config
        frames = 3 if config.over_time else 1
        widths = [config.width * min(2**level, 8) for level in range(config.depth)]
        layers: list[nn.Module] = [_conv(3, widths[0], frames, stride=2), nn.LeakyReLU(0.2)]
        for before, width in pairwise(widths):
            layers += [_conv(before, width, frames, stride=2), nn.GroupNorm(NUM_GROUPS, width), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, _conv(widths[-1], 1, frames, stride=1))
        self.register_buffer("logits", torch.zeros(2))  # averages of those of videos and of reconstructions
        self.register_buffer("num_updates", torch.zeros(()))

    def forward(self, video: Tensor) -> Tensor:
        logits: Tensor = self.layers(video)
        return logits.float()

    def reconstruction_loss(self, out: Tensor) -> Tensor:
        """What the autoencoder pays for being told: the negative mean of the logits of its reconstruction."""
        return -self(out).mean()

    def own_loss(self, video: Tensor, out: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Hinge loss of both, with the penalties of the settings; and figures for the log. `out` has no gradient."""
        config = self.config
        real_input = video.detach().requires_grad_(config.r1 > 0)
        real, fake = self(real_input), self(out.detach())
        loss = (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2
        figures = {"real_logit": real.detach().mean(), "fake_logit": fake.detach().mean()}
        if config.r1:
            (slope,) = torch.autograd.grad(real.sum(), real_input, create_graph=True)
            loss = loss + config.r1 / 2 * slope.square().flatten(1).sum(1).mean()
        if config.lecam:
            average_real, average_fake = self.logits
            apart = F.relu(real - average_fake).square().mean() + F.relu(average_real - fake).square().mean()
            loss = loss + config.lecam * apart * (self.num_updates > 0)  # nothing is known in the first step
        return loss, figures

    @torch.no_grad()
    def update(self, real_logit: float, fake_logit: float) -> None:
        """Let the averages follow the mean logits of a step, which are those of all ranks. They begin with those of
        the first one: an anchor at 0 would draw the logits of both together."""
        self.num_updates += 1
        share = (1 / self.num_updates).clamp(min=1 - LOGITS_DECAY)
        self.logits.lerp_(self.logits.new_tensor([real_logit, fake_logit]), share)


class Opponent:
    """An adversary that a run trains beside its network; every rank has the same one.

    Args:
        net: on the rank's device.
        ranks: over which its gradients are averaged.
    """

    def __init__(self, net: Adversary, ranks: RankGrid) -> None:
        self.net, self._ranks = net, ranks

    @classmethod
    def of(cls, config: TrainAutoencoderConfig, ranks: RankGrid) -> Self | None:
        """That of the settings, its weights a function of the seed; None: there is none."""
        if config.loss.adversary is None:
            return None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            return cls(Adversary(config.loss.adversary).to(ranks.device), ranks)

    def counts(self, step: int) -> bool:
        """Whether it is trained in a step."""
        return step >= self.net.config.start

    def rest(self) -> None:
        """In a step before, it stays as it is, and checkpoints have its moments already."""
        for parameter in self.net.parameters():
            parameter.grad = torch.zeros_like(parameter)

    def told_apart(self, reconstruction: Tensor, out: Tensor, last_layer: Tensor) -> Tensor:
        """What it adds to the loss of a step."""
        self.net.requires_grad_(False)
        told = self.net.reconstruction_loss(out.float())
        scale = adaptive_weight(reconstruction, told, last_layer) if self.net.config.adaptive else 1.0
        return self.net.config.weight * scale * told

    def oppose(self, video: Tensor, out: Tensor, clip_norm: float) -> dict[str, Tensor]:
        """Its own gradients, averaged over the ranks; figures for the log."""
        self.net.requires_grad_(True)
        loss, figures = self.net.own_loss(video, out.float())
        loss.backward()
        for parameter in self.net.parameters():
            assert parameter.grad is not None
            parameter.grad = self._ranks.sum(parameter.grad) / self._ranks.dp_size
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), clip_norm)
        return {"adversary_loss": loss.detach(), **figures}


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last_layer: Tensor) -> Tensor:
    """Scalar by which the adversarial loss has as large a gradient at the decoder's last layer as the reconstruction's
    (Esser et al. 2021, equation 7)."""
    (of_rebuilding,) = torch.autograd.grad(reconstruction, last_layer, retain_graph=True)
    (of_fooling,) = torch.autograd.grad(adversarial, last_layer, retain_graph=True)
    return (of_rebuilding.norm() / (of_fooling.norm() + EPSILON)).clamp(max=MOST_ADAPTIVE).detach()


def _conv(in_channels: int, out_channels: int, frames: int, *, stride: int) -> nn.Conv3d:
    side = 4 if stride == 2 else 3
    return nn.Conv3d(in_channels, out_channels, (frames, side, side), (1, stride, stride), (frames // 2, 1, 1))
