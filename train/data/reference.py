"""Clips as validation and previews meet them: whole, under one of their captions, with the same noise every time."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from train.data.blend import reference_text
from train.data.generator import keyed_generator
from train.data.manifest import Manifest
from train.data.read import ClipReader
from train.data.sample import sample_fps, sample_label, sample_scalars, show_read
from train.data.tasks.base import Shown, canvas_of
from train.model.config import ModelConfig
from train.packing.batch import Sample


def reference_sample(reader: ClipReader, index: int, model: ModelConfig) -> Sample:
    """A row of the manifest by its number, clean: `noised` gives it noise. Conditioning latents have half of the noise
    that training gives them at most; of gray videos the run's first one is shown."""
    row = reader.manifest.row(index)
    gray = reader.manifest.gray if row["latent_t"] > 1 else None
    read = reader.read(row, gray=gray)
    latent = read.latent
    sample = Sample(
        clip_id=row["clip_id"],
        latent=latent,
        noise=torch.zeros_like(latent),
        timestep=0.0,
        fps=sample_fps(row),
        temporal_stride=int(reader.manifest.latents["temporal_stride"]),
        scalars=sample_scalars(row, model.conditions),
        label=sample_label(row),
        text=reference_caption(reader, index),
    )
    if gray is not None:
        nothing = canvas_of(latent.shape, model.patch).nothing
        sample = show_read(sample, Shown(patches=nothing, gray=gray), read, model)
    for one in reader.manifest.conditioning:
        generator = keyed_generator("reference", one.kind, row["clip_id"], *latent.shape)
        sample = one.condition(sample, reader.conditioning(row, one), one.max_noise / 2, generator)
    return sample


def reference_caption(reader: ClipReader, index: int) -> Tensor | None:
    """Token states (n, D) of the caption of a row, by the order of `blend.ORDER`; None where it has none."""
    texts = reader.captions(reader.manifest.row(index))
    name = reference_text(texts)
    return None if name is None else texts[name]


def reference_prompts(manifest: Manifest, rows: Sequence[int]) -> list[str]:
    """The texts of the captions that `reference_caption` gives; "" where a row has none."""
    return [texts.get(reference_text(texts) or "", "") for texts in manifest.captions(rows)]


def noised(sample: Sample, timestep: float, *key: object) -> Sample:
    """The sample at a timestep, its noise a function of the key."""
    noise = torch.randn(sample.latent.shape, generator=keyed_generator(*key))
    return replace(sample, noise=noise, timestep=timestep)
