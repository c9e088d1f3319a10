"""What a reconstruction costs, after Latent Diffusion (Rombach et al. 2022), section 3.1 and appendix G."""

import torch
from torch import Tensor
from torch.nn import functional as F

from train.autoencoder.training.config import LossConfig

NUM_SCALES = 3


class ReconstructionLoss:
    """All that a reconstruction costs but what the bottleneck and an adversary add, by the settings.

    Raises:
        ValueError: the network that is to see the error cannot be loaded.
    """

    def __init__(self, config: LossConfig, device: torch.device) -> None:
        self.config = config
        self._distance = config.perceptual.distance.build(device) if config.perceptual else None

    def __call__(self, out: Tensor, video: Tensor, noise: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, a scalar, and parts of it for the log. `out` and `video` are (B, 3, T, H, W) in [-1, 1]; `noise`,
        on the CPU, draws the frames that a network compares."""
        loss, perceptual = reconstruction_loss(out, video, self.config), self.config.perceptual
        if perceptual is None or self._distance is None:
            return loss, {}
        count = video.shape[0] * video.shape[2]
        drawn = torch.randperm(count, generator=noise)[: perceptual.frames_per_batch].to(video.device)
        frames, others = (x.transpose(1, 2).flatten(0, 1)[drawn] for x in (out, video))  # (n, 3, H, W)
        seen = self._distance(frames, others).mean()
        return loss + perceptual.weight * seen, {self._distance.name: seen.detach()}


def reconstruction_loss(out: Tensor, video: Tensor, config: LossConfig) -> Tensor:
    """Error of the values, plus `edge_weight` times L1 of their differences in space (three scales) and time: scalar.

    `out` and `video` are (B, 3, T, H, W) in [-1, 1]. Differences in space keep edges sharp, those in time keep still
    what stands still.
    """
    error = out - video  # differences are linear: those of the error are the errors of the differences
    loss = error.abs().mean() if config.pixel == "l1" else error.square().mean()
    edges = error.new_zeros(())
    if error.shape[2] > 1:
        edges = edges + error.diff(dim=2).abs().mean()
    frames = error.transpose(1, 2).flatten(0, 1)  # (B * T, 3, H, W)
    for scale in range(NUM_SCALES):
        if scale:
            frames = F.avg_pool2d(frames, 2)
        edges = edges + (frames.diff(dim=-1).abs().mean() + frames.diff(dim=-2).abs().mean()) / 2
    return loss + config.edge_weight * edges
