"""Losses with the same noise every time: curves that move because the model moved.

Each clip is evaluated at fixed timesteps with noise keyed by (clip, timestep), so two steps, two runs and two
machines compare the same numbers.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from train.data.manifest import Manifest
from train.data.plan import best_fill
from train.data.read import ClipReader
from train.data.reference import noised, reference_caption, reference_sample
from train.evaluate.base import EvaluationContext
from train.packing.batch import PackedBatch, Sample, pack, renoised


class FixedNoiseLoss:
    """Computes losses at fixed timesteps; packs are distributed over the ranks.

    Args:
        timesteps: each in [0, 1].
        context: of the run.
    """

    def __init__(self, timesteps: Sequence[float], context: EvaluationContext) -> None:
        self.timesteps, self.context = timesteps, context
        self.model, self.patch, self.ranks = context.model, context.model.patch, context.ranks

    @torch.no_grad()
    def losses(
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
        packs = best_fill(manifest.num_tokens[list(rows)].tolist(), self.context.plan)
        losses = torch.zeros(len(captions), len(rows), len(self.timesteps), device=self.ranks.device)
        # As many packs on every rank, because a sharded model is gathered together; surplus ones count for nothing.
        for turn in range(0, len(packs), self.ranks.world_size):
            is_mine = turn + self.ranks.rank < len(packs)
            indices = packs[turn + self.ranks.rank if is_mine else turn]
            clean = [reference_sample(reader, rows[i], self.model) for i in indices]
            for number, caption_rows in enumerate(captions):
                captioned = [
                    self._captioned(reader, sample, rows[i], caption_rows[i])
                    for i, sample in zip(indices, clean, strict=True)
                ]
                packed = pack(captioned, self.patch, manifest.text_dim, self.model.conditions)
                batch = self.model.prepare(packed).to(self.ranks.device)
                for column, t in enumerate(self.timesteps):
                    noises = [noised(sample, t, "validation", sample.clip_id, t).noise for sample in captioned]
                    found = self._sample_losses(model, renoised(batch, captioned, noises, t, self.patch))
                    if is_mine:
                        losses[number, indices, column] = found
        return self.ranks.sum(losses).cpu()

    def _captioned(self, reader: ClipReader, sample: Sample, row: int, caption_row: int) -> Sample:
        if self.model.self_conditioning:
            sample = replace(sample, self_conditioned=True)  # as in all steps of sampling but the first
        if caption_row == row:
            return sample
        return replace(sample, text=reference_caption(reader, caption_row))

    def _sample_losses(self, model: nn.Module, batch: PackedBatch) -> Tensor:
        """Mean loss of each sample of a pack: (S,)."""
        token_losses = self.context.objective.token_losses(model, batch)  # (L,)
        return batch.segments.mean(token_losses[:, None])[:, 0]
