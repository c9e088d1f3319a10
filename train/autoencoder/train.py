"""Recipe of the embedded autoencoder: `reelpack train-autoencoder`.

Loss after Latent Diffusion (Rombach et al. 2022), section 3.1 and appendix G, without its discriminator: L1, L1 of the
spatial differences at three scales (edges) and of the temporal differences (no flicker), and what the bottleneck
costs.
"""

import json
import logging
import math
import time
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from curate.storage.lease import hold
from curate.storage.publish import publish, remove_unfinished, write_text
from train.autoencoder.film import CACHE_SHORT_SIDE_PX, FilmClips, cache_frames
from train.autoencoder.network import CausalVideoAutoencoder
from train.autoencoder.network_config import NetworkConfig
from train.autoencoder.weights_folder import save

logger = logging.getLogger(__name__)


MAY_CHANGE = frozenset({"film", "save_every"})
"""Settings that a resumed run can change."""


class TrainAutoencoderConfig(BaseModel):
    """Everything that decides what is trained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    film: str | None = Field(None, description="path of the video; null for the asset `bbb-film`")
    network: NetworkConfig = Field(NetworkConfig(), description="architecture and bottleneck")
    steps: int = Field(6000, ge=1, description="optimizer steps")
    batch_px: int = Field(300_000, ge=4096, description="pixels of a batch: clips x frames x height x width")
    learning_rate: float = Field(1.5e-3, gt=0, description="peak of the cosine schedule")
    warmup_steps: int = Field(100, ge=0, description="steps of linear warm-up")
    weight_decay: float = Field(1e-3, ge=0, description="AdamW's decay")
    grad_clip: float = Field(0.5, gt=0, description="largest gradient norm")
    ema_decay: float = Field(0.998, ge=0, lt=1, description="of the average of weights that is saved")
    edge_weight: float = Field(0.5, ge=0, description="weight of the spatial and temporal differences")
    bfloat16: bool = Field(
        True, description="autocast to bfloat16; several times faster where the CPU has AVX512-BF16"
    )
    save_every: int = Field(250, ge=1, description="steps between checkpoints")
    seed: int = Field(0, description="of the initial weights and of the data")


def reconstruction_loss(out: Tensor, video: Tensor, edge_weight: float) -> Tensor:
    """L1 of the values plus `edge_weight` times L1 of their differences in space (three scales) and time: scalar.

    `out` and `video` are (B, 3, T, H, W) in [-1, 1].
    """
    error = (
        out - video
    )  # (B, 3, T, H, W); differences are linear: those of the error are the errors of the differences
    loss = error.abs().mean()
    edges = error.new_zeros(())
    if error.shape[2] > 1:
        edges = edges + error.diff(dim=2).abs().mean()
    frames = error.transpose(1, 2).flatten(0, 1)  # (B * T, 3, H, W)
    for scale in range(3):
        if scale:
            frames = F.avg_pool2d(frames, 2)
        edges = edges + (frames.diff(dim=-1).abs().mean() + frames.diff(dim=-2).abs().mean()) / 2
    return loss + edge_weight * edges


def learning_rate(config: TrainAutoencoderConfig, step: int) -> float:
    """Linear warm-up, then cosine to a hundredth of the peak."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.learning_rate * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * progress)))


class AutoencoderTrainer:
    """Network, its average, optimizer and step: what a checkpoint holds."""

    def __init__(self, config: TrainAutoencoderConfig) -> None:
        self.config = config
        torch.manual_seed(config.seed)
        self.network = CausalVideoAutoencoder(config.network)
        self.average = CausalVideoAutoencoder(config.network).requires_grad_(False)
        self.average.load_state_dict(self.network.state_dict())
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), betas=(0.9, 0.99), weight_decay=config.weight_decay
        )
        self.step = 0

    def update(self, video: Tensor) -> dict[str, float]:
        """One step on (B, 3, T, H, W) in [-1, 1]; returns what is logged."""
        config = self.config
        noise = torch.Generator().manual_seed(config.seed * 1_000_003 + self.step)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
            out, coded = self.network(video, noise)
        reconstruction = reconstruction_loss(out, video, config.edge_weight)
        self.optimizer.zero_grad(set_to_none=True)
        (reconstruction + coded.loss).backward()
        grad_norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.grad_clip)
        rate = learning_rate(config, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.network.bottleneck.update(coded, noise)
        self._update_average()
        self.step += 1
        mse = (out.detach().clamp(-1, 1) - video).square().mean().item()
        return {
            "step": self.step,
            "loss": reconstruction.item(),
            "psnr_db": 10.0 * math.log10(4.0 / max(mse, 1e-12)),
            **{name: value.item() for name, value in coded.metrics.items()},
            "grad_norm": float(grad_norm),
            "lr": rate,
            "frames": video.shape[2],
        }

    def _update_average(self) -> None:
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        for ours, theirs in zip(self.average.parameters(), self.network.parameters(), strict=True):
            ours.lerp_(theirs.detach(), 1.0 - decay)
        for ours, theirs in zip(self.average.buffers(), self.network.buffers(), strict=True):
            ours.copy_(theirs)

    def save_checkpoint(self, path: Path) -> None:
        state = {
            "step": self.step,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        with publish(str(path)) as file:
            torch.save(state, file)

    def load_checkpoint(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.step = state["step"]
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])


@torch.no_grad()
def latent_statistics(
    model: CausalVideoAutoencoder, clips: FilmClips, *, num_batches: int = 100
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per channel, (C,) float64, of the raw latents of batches of training data."""
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for index in range(num_batches):
        values = model.latent(clips.batch(10_000_000 + index)).double().transpose(0, 1).flatten(1)  # (C, n)
        count += values.shape[1]
        total = total + values.sum(dim=1)
        squares = squares + values.square().sum(dim=1)
    average = total / count
    return average, (squares / count - average.square()).sqrt()


def train_autoencoder(config: TrainAutoencoderConfig, out: Path) -> Path:
    """Trains, or continues what was killed, and writes the weights with their latent statistics to `out/weights`.

    Raises:
        ValueError: another process trains in `out`, or what is there was begun with another network or other data.
    """
    with hold(out, "train"):
        return _train(config, out)


def _train(config: TrainAutoencoderConfig, out: Path) -> Path:
    _check_begun(config, out / "config.json")
    remove_unfinished(str(out), {"frames.npy", "checkpoint.pt", "config.json"})
    write_text(str(out / "config.json"), config.model_dump_json(indent=2))
    clips = FilmClips(frames=_film(config, out / "frames.npy"), batch_px=config.batch_px, seed=config.seed)
    trainer = AutoencoderTrainer(config)
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        trainer.load_checkpoint(checkpoint)
        logger.info("continuing at step %d", trainer.step)
    began, first = time.monotonic(), trainer.step
    with open(out / "metrics.jsonl", "a") as log:
        while trainer.step < config.steps:
            metrics = trainer.update(clips.batch(trainer.step))
            log.write(json.dumps(metrics) + "\n")
            if trainer.step % 50 == 0:
                log.flush()
                rate = (time.monotonic() - began) / (trainer.step - first)
                logger.info("%s s/step %.3f", {k: round(v, 5) for k, v in metrics.items()}, rate)
            if trainer.step % config.save_every == 0 or trainer.step == config.steps:
                trainer.save_checkpoint(checkpoint)
    mean, std = latent_statistics(trainer.average, clips)
    trainer.average.config = config.network.model_copy(
        update={
            "latent_mean": tuple(round(v, 6) for v in mean.tolist()),
            "latent_std": tuple(round(v, 6) for v in std.tolist()),
        }
    )
    save(trainer.average, out / "weights")
    return out / "weights"


def _check_begun(config: TrainAutoencoderConfig, path: Path) -> None:
    """A run resumes with the settings that it started with."""
    if not path.exists():
        return
    begun, ours = json.loads(path.read_text()), config.model_dump(mode="json")
    differing = [name for name in ours if name not in MAY_CHANGE and begun.get(name) != ours[name]]
    if differing:
        told = ", ".join(f"{name}={begun.get(name)} (here {ours[name]})" for name in differing)
        raise ValueError(f"{path.parent} was begun with {told}; choose another folder, or set these as there")


def _film(config: TrainAutoencoderConfig, cache: Path) -> np.ndarray:
    if cache.exists():
        return cache_frames((), cache)
    from curate.media.frames import iter_frames

    path = config.film
    if path is None:
        from curate.encoders.weights import resolve

        path = str(resolve("bbb-film"))
    return cache_frames((frame.rgb for frame in iter_frames(path, short_side_px=CACHE_SHORT_SIDE_PX)), cache)
