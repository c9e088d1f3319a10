"""Loss of held-out clips with fixed noise, of the model and of its average.

A mean hides what moves: losses are also reported by timestep, and by duration and resolution of the clips.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from train.data.manifest import Manifest
from train.data.sample import sample_fps
from train.evaluate.base import AveragedWeights, Evaluation, EvaluationContext
from train.evaluate.config import HeldOutLossConfig
from train.evaluate.fixed_noise import FixedNoiseLoss


class HeldOutLoss:
    """`val_loss` and `val_loss_ema` with their parts; nothing without held-out clips."""

    def __init__(self, config: HeldOutLossConfig, context: EvaluationContext) -> None:
        self.config, self.manifest = config, context.val
        self.fixed = FixedNoiseLoss(config.timesteps, context)

    def evaluate(self, model: nn.Module, average: AveragedWeights, step: int) -> Evaluation:
        if not len(self.manifest):
            return Evaluation()
        metrics = _named("val_loss", self.losses(model))
        with average.applied_to(model):
            metrics |= _named("val_loss_ema", self.losses(model))
        return Evaluation(metrics=metrics)

    def losses(self, model: nn.Module) -> dict[str, Any]:
        """Mean loss over clips and timesteps, and its parts.

        Returns:
            `loss`; `by_dataset`, where there are several; `by_timestep`; `by_bin`: duration → resolution → timestep →
            loss; `clips`: duration → resolution → number of clips.
        """
        manifest = self.manifest
        rows = manifest.spread(self.config.max_clips)
        bins = {row: self.bins(manifest, row) for row in rows}
        losses = self.fixed.losses(model, manifest, rows, [rows])[0].tolist()
        by_timestep: dict[str, list[float]] = defaultdict(list)
        by_dataset: dict[str, list[float]] = defaultdict(list)
        by_bin: dict[str, Any] = {}
        for row, of_row in zip(rows, losses, strict=True):
            duration, resolution = bins[row]
            by_dataset[manifest.parts[manifest.sources[row]].name] += of_row
            for t, loss in zip(self.config.timesteps, of_row, strict=True):
                by_timestep[f"{t:g}"].append(loss)
                by_bin.setdefault(duration, {}).setdefault(resolution, defaultdict(list))[f"{t:g}"].append(loss)
        clips: dict[str, Counter[str]] = defaultdict(Counter)
        for duration, resolution in bins.values():
            clips[duration][resolution] += 1
        return {
            "loss": _mean([loss for of_row in losses for loss in of_row]),
            **({"by_dataset": _means(by_dataset)} if len(manifest.parts) > 1 else {}),
            "by_timestep": _means(by_timestep),
            "by_bin": {d: {r: _means(cell) for r, cell in sorted(cells.items())} for d, cells in by_bin.items()},
            "clips": {duration: dict(cells) for duration, cells in clips.items()},
        }

    def bins(self, manifest: Manifest, row: int) -> tuple[str, str]:
        """Duration and resolution of a clip."""
        clip, stride = manifest.row(row), int(manifest.latents["spatial_stride"])
        frames, fps = 1 + (clip["latent_t"] - 1) * int(manifest.latents["temporal_stride"]), sample_fps(clip)
        sides = stride * clip["latent_h"], stride * clip["latent_w"]
        return self.config.duration(frames / fps if fps else 0.0), self.config.resolution(*sides)


def _named(name: str, losses: dict[str, Any]) -> dict[str, Any]:
    """Held-out losses as they are logged: val_loss, val_loss_by_timestep, val_loss_by_bin, val_clips_by_bin, and for
    several datasets val_loss_by_dataset."""
    names = {"loss": name, "clips": "val_clips_by_bin"}
    return {names.get(part, f"{name}_{part}"): value for part, value in losses.items()}


def _means(lists: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {name: _mean(values) for name, values in lists.items()}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
