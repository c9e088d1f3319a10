"""Quality of samples while a run trains: held-out captions, at the sizes and lengths of their clips, by the averaged
weights.

What they are compared with are the latents of held-out and training clips, decoded: what the autoencoder loses is no
fault of the model. Ranks sample, decode and look at their own packs, and send each other what they have seen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from train.autoencoder.base import VideoAutoencoder
from train.autoencoder.config import autoencoder_of
from train.autoencoder.pixels import decode_latent
from train.data.manifest import Manifest
from train.data.read import ClipReader
from train.data.reference import noised, reference_prompts, reference_sample
from train.data.sample import sample_fps
from train.evaluate.base import AveragedWeights, Evaluation, EvaluationContext
from train.evaluate.quality.config import QualityConfig
from train.evaluate.quality.figures import Figures
from train.evaluate.quality.measure import SeenSet, check_counts, measure
from train.evaluate.quality.observe import Observation, Observer
from train.packing.batch import Sample
from train.sampling.config import SampleConfig
from train.sampling.generate import generate, packs_to_generate


class QualityEvaluator:
    """Raises:
    ValueError: there are too few held-out clips, a network cannot be loaded or takes longer videos, or the
        autoencoder of the latents is missing.
    """

    def __init__(self, config: QualityConfig, context: EvaluationContext) -> None:
        self.config, self.context, self.ranks = config, context, context.ranks
        try:
            check_counts(config.num_samples, len(self._rows(context.val, min_frames=1)))  # before networks are loaded
            self.observer = Observer(config, self.ranks.device)
            held_out, training = (
                self._rows(manifest, min_frames=self.observer.min_frames) for manifest in (context.val, context.train)
            )
            check_counts(config.num_samples, len(held_out))
            self._autoencoder()
        except ValueError as error:
            raise ValueError(f"train.evaluate.quality: {error}; or set train.evaluate.quality.every=0") from error
        self.rows, self.training_rows = held_out[: config.max_held_out], training[: config.max_training]
        self.sampling = SampleConfig(num_steps=config.num_steps, guidance=config.guidance)
        self._clips: tuple[SeenSet, SeenSet] | None = None

    def evaluate(self, model: nn.Module, average: AveragedWeights, step: int) -> Evaluation:
        # Decoded and seen as `reelpack evaluate` does, independent of the run's precision.
        if self._clips is None:
            with torch.autocast(self.ranks.device.type, enabled=False):
                training = self._seen_clips(self.context.train, self.training_rows, with_text=False)
                self._clips = self._seen_clips(self.context.val, self.rows, with_text=True), training
        held_out, training = self._clips
        with average.applied_to(model):
            generated = self._generated(model)
        return Evaluation(metrics=metrics_of(measure(generated, held_out, training, self.config)))

    def _generated(self, model: nn.Module) -> SeenSet:
        """Packs are distributed over the ranks; a surplus one counts for nothing."""
        manifest, shape, device = self.context.val, self.context.model, self.ranks.device
        drawn = [(self.rows[i % len(self.rows)], i // len(self.rows)) for i in range(self.config.num_samples)]
        reader, autoencoder = ClipReader(manifest, shape.patch, device), self._autoencoder()
        counts = manifest.num_tokens[[row for row, _ in drawn]].tolist()
        packs = packs_to_generate(counts, self.sampling, self.context.plan)
        seen: dict[int, Observation] = {}
        for turn in range(0, len(packs), self.ranks.world_size):
            is_mine = turn + self.ranks.rank < len(packs)
            numbers = packs[turn + self.ranks.rank if is_mine else turn]
            samples = [self._noise(reader, *drawn[number]) for number in numbers]
            latents = generate(model, samples, self.context.objective, self.sampling, shape, manifest.text_dim, device)
            if is_mine:
                with torch.autocast(device.type, enabled=False):
                    for number, sample, latent in zip(numbers, samples, latents, strict=True):
                        seen[number] = self.observer.see(decode_latent(autoencoder, latent), sample.fps)
        prompts = reference_prompts(manifest, [row for row, _ in drawn])
        return self._set(seen, list(map(str, range(len(drawn)))), prompts)

    def _noise(self, reader: ClipReader, row: int, turn: int) -> Sample:
        sample = reference_sample(reader, row, self.context.model)
        return replace(noised(sample, 1.0, "quality", sample.clip_id, turn), clip_id=f"{sample.clip_id}-{turn}")

    def _seen_clips(self, manifest: Manifest, rows: Sequence[int], *, with_text: bool) -> SeenSet:
        reader, autoencoder = ClipReader(manifest, self.context.model.patch, self.ranks.device), self._autoencoder()
        seen: dict[int, Observation] = {}
        for number in range(self.ranks.rank, len(rows), self.ranks.world_size):
            row = manifest.row(rows[number])
            rgb = decode_latent(autoencoder, reader.latent(row))
            seen[number] = self.observer.see(rgb, sample_fps(row), with_text=with_text)
        names = [manifest.row(row, ["clip_id"])["clip_id"] for row in rows]
        return self._set(seen, names, reference_prompts(manifest, rows) if with_text else [])

    def _set(self, seen: Mapping[int, Observation], names: Sequence[str], prompts: Sequence[str]) -> SeenSet:
        """What all ranks have seen."""
        of_all = {number: one for part in self.ranks.all_gather_object(seen) for number, one in part.items()}
        videos = [of_all[number] for number in range(len(names))]
        return SeenSet(videos=videos, names=names, prompts=prompts, texts=self.observer.texts(prompts))

    def _rows(self, manifest: Manifest, *, min_frames: int) -> list[int]:
        """Clips of so many frames or more, each once and in random order: videos, or pictures where there is nothing
        else. Of held-out clips those with a caption, if any has one."""
        frames = 1 + (manifest.column("latent_t").to_numpy() - 1) * int(manifest.latents["temporal_stride"])
        wanted = (frames >= min_frames) & ((frames > 1) | (not (frames > 1).any()))
        if manifest is self.context.val and manifest.has_texts:
            wanted &= np.asarray(manifest.table["text_shard"].is_valid())
        clips = manifest.column("clip_id").to_numpy()
        chosen: dict[str, int] = {}
        for row in np.random.default_rng(0).permutation(len(manifest)).tolist():
            if wanted[row]:
                chosen.setdefault(clips[row], row)
        return list(chosen.values())

    def _autoencoder(self) -> VideoAutoencoder:
        """Loaded when it is needed: between measurements it takes no memory."""
        latents = self.context.val.latents
        try:
            return autoencoder_of(latents, self.ranks.device)
        except (KeyError, OSError, ValueError) as error:
            raise ValueError(
                f"the autoencoder of latents {latents['fingerprint']} cannot be loaded ({error})"
            ) from error


def metrics_of(figures: Figures) -> dict[str, Any]:
    """As they are logged: what is compared over the steps, by one name each, and their intervals."""
    found: dict[str, Any] = {}
    intervals: dict[str, dict[str, float]] = {}
    for name, distance in figures.distances.items():
        found |= {name: distance.frechet.value, f"{name}_kernel": distance.kernel.value}
        intervals |= {name: distance.frechet.ends, f"{name}_kernel": distance.kernel.ends}
    for name, match in figures.consistency.items():
        found |= {name: match.own.value, f"{name}_p_value": match.p_value}
        found |= {} if match.shuffled is None else {f"{name}_shuffled": match.shuffled}
        intervals[name] = match.own.ends
    for name, movement in figures.movement.items():
        found[name], intervals[name] = movement.generated.value, movement.generated.ends
    if (near := figures.memorization) is not None:
        found |= {"nearest": near.generated.value, "nearest_share": near.share}
        intervals["nearest"] = near.generated.ends
    named = {f"quality_{name}": value for name, value in found.items()}
    return named | {"quality_intervals": intervals}
