"""Validation with the same noise every time: curves that move because the model moved.

Each held-out clip is evaluated at fixed timesteps with noise keyed by (clip, timestep), so that two steps, two runs
and two machines compare the same numbers. The caption test asks whether the text is used: the loss of training clips
under their own caption beside the loss, same noise, under another clip's.

A mean hides what moves: losses are also reported by timestep, and by duration and resolution of the clips.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from train.data.manifest import Manifest
from train.data.plan import PlanConfig, best_fill
from train.data.read import ClipReader
from train.data.reference import noised, reference_sample
from train.data.sample import choose_caption, sample_fps
from train.distributed.ranks import RankGrid
from train.model.config import ModelConfig
from train.objective.base import Objective
from train.packing.batch import PackedBatch, Sample, pack, renoised
from train.run.config import ValidationConfig


class Validator:
    """Computes losses with fixed noise; packs are distributed over the ranks."""

    def __init__(
        self, objective: Objective, config: ValidationConfig, plan: PlanConfig, model: ModelConfig, ranks: RankGrid
    ) -> None:
        self.objective = objective
        self.config = config
        self.plan = plan
        self.model = model
        self.patch = model.patch
        self.ranks = ranks

    def held_out_loss(self, model: nn.Module, manifest: Manifest) -> dict[str, Any]:
        """Mean loss over clips and timesteps, and its parts.

        Returns:
            `loss`; `by_dataset`, where there are several; `by_timestep`; `by_bin`: duration → resolution → timestep →
            loss; `clips`: duration → resolution → number of clips.
        """
        rows = manifest.spread(self.config.max_clips)
        bins = {row: self.bins(manifest, row) for row in rows}
        losses = self._losses(model, manifest, rows, [rows])[0].tolist()
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

    def caption_loss(self, model: nn.Module, manifest: Manifest) -> dict[str, Any] | None:
        """Paired losses of training clips under their own and another clip's caption; None without two captions."""
        donors = caption_donors(manifest, self.config.max_caption_clips)
        if not donors:
            return None
        true, shuffled = self._losses(model, manifest, list(donors), [list(donors), list(donors.values())]).mean(-1)
        return {
            "loss_true": float(true.mean()),
            "loss_shuffled": float(shuffled.mean()),
            "clips": len(donors),
            "clips_where_true_is_lower": int((true < shuffled).sum()),
        }

    @torch.no_grad()
    def _losses(
        self, model: nn.Module, manifest: Manifest, rows: Sequence[int], captions: Sequence[Sequence[int]]
    ) -> Tensor:
        """Each clip is read once, and evaluated at every timestep under each of its captions.

        Args:
            model: the network.
            manifest: the clips.
            rows: N of them.
            captions: C times N rows, whose captions the clips get.

        Returns:
            (C, N, timesteps) float32 on CPU.
        """
        reader = ClipReader(manifest, self.patch, self.ranks.device)
        packs = best_fill(manifest.num_tokens[list(rows)].tolist(), self.plan)
        losses = torch.zeros(len(captions), len(rows), len(self.config.timesteps), device=self.ranks.device)
        # As many packs on every rank, because a sharded model is gathered together; surplus ones count for nothing.
        for turn in range(0, len(packs), self.ranks.dp_size):
            is_mine = turn + self.ranks.dp_rank < len(packs)
            indices = packs[turn + self.ranks.dp_rank if is_mine else turn]
            clean = [reference_sample(reader, rows[i], self.model.conditions) for i in indices]
            for number, caption_rows in enumerate(captions):
                captioned = [
                    self._captioned(reader, sample, rows[i], caption_rows[i])
                    for i, sample in zip(indices, clean, strict=True)
                ]
                packed = pack(captioned, self.patch, manifest.text_dim, self.model.conditions)
                batch = self.model.prepare(packed).to(self.ranks.device)
                for column, t in enumerate(self.config.timesteps):
                    noises = [noised(sample, t, "validation", sample.clip_id, t).noise for sample in captioned]
                    found = self._sample_losses(model, renoised(batch, captioned, noises, t, self.patch))
                    if is_mine:
                        losses[number, indices, column] = found
        return self.ranks.sum(losses).cpu()

    def _captioned(self, reader: ClipReader, sample: Sample, row: int, caption_row: int) -> Sample:
        if caption_row == row:
            return sample
        captions = reader.captions(reader.manifest.row(caption_row))
        return replace(sample, text=choose_caption(captions, prefers_dense=True))

    def _sample_losses(self, model: nn.Module, batch: PackedBatch) -> Tensor:
        """Mean loss of each sample of a pack: (S,)."""
        token_losses = self.objective.token_losses(model, batch)  # (L,)
        return batch.segments.mean(token_losses[:, None])[:, 0]


def caption_donors(manifest: Manifest, max_clips: int) -> dict[int, int]:
    """For each row that has an embedded caption, the next such row (cyclically) whose caption reads differently."""
    order = np.flatnonzero(manifest.table["text_shard"].is_valid())[:max_clips].tolist()
    captions = dict(zip(order, manifest.captions(order), strict=True))
    donors = {}
    for position, row in enumerate(order):
        others = order[position + 1 :] + order[:position]
        donor = next((other for other in others if captions[other] != captions[row]), None)
        if donor is not None:
            donors[row] = donor
    return donors


def _means(lists: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {name: _mean(values) for name, values in lists.items()}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
