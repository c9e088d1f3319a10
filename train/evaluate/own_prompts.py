"""The user's own prompts, sampled while a run trains: read, embedded and given their size before the first step."""

from collections import Counter
from pathlib import Path

import torch
from torch import Tensor

from train.data.fingerprint import NO_TEXT
from train.data.manifest import Manifest
from train.evaluate.base import EvaluationContext
from train.evaluate.config import SamplesConfig
from train.packing.batch import Sample
from train.packing.shapes import Patch
from train.run.folder import RunRecord
from train.sampling.loaded import embed_prompts, load_text_encoder
from train.sampling.request import Request, latent_shape

LISTS = (".csv", ".json", ".jsonl", ".parquet")


def own_prompts(config: SamplesConfig) -> list[str]:
    """The prompts, one for each line of a file.

    Raises:
        ValueError: the file cannot be read, or has none.
    """
    if not isinstance(config.prompts, str):
        return list(config.prompts)
    if Path(config.prompts).suffix.lower() in LISTS:
        raise ValueError(
            f"train.evaluate.samples.prompts: {config.prompts} is a list with columns; expected a text file with a "
            "prompt in each line, or a list of prompts (`reelpack sample --prompts` takes lists with columns)"
        )
    try:
        lines = Path(config.prompts).read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"train.evaluate.samples.prompts: {config.prompts} cannot be read ({error}); expected a text file in "
            "UTF-8 with a prompt in each line, or a list of prompts"
        ) from error
    if not (prompts := [line.strip() for line in lines if line.strip()]):
        raise ValueError(f"train.evaluate.samples.prompts: {config.prompts} has no prompt")
    return prompts


def own_samples(prompts: list[str], config: SamplesConfig, context: EvaluationContext) -> list[Sample]:
    """A sample for each prompt, without noise, on every rank; the first one embeds.

    Raises:
        ValueError: the run reads no captions, their encoder is not here, or the size does not fit the run.
    """
    if not prompts:
        return []
    manifest = context.val if len(context.val) else context.train
    model, ranks = context.model, context.ranks
    if not model.reads_captions or manifest.text["fingerprint"] == NO_TEXT["fingerprint"]:
        raise ValueError(
            "train.evaluate.samples.prompts: the run is trained without captions and reads no prompt; leave them out"
        )
    shape, fps = _shape(config, manifest, model.patch)
    embedded = _embedded(prompts, manifest) if ranks.is_main else None
    [states] = (part for part in ranks.all_gather_object(embedded) if part is not None)
    return [
        Sample(
            clip_id=f"prompt {number}",
            latent=torch.zeros(shape),
            noise=torch.zeros(shape),
            timestep=0.0,
            fps=fps,
            temporal_stride=int(manifest.latents["temporal_stride"]),
            text=text,
        )
        for number, text in enumerate(states)
    ]


def _embedded(prompts: list[str], manifest: Manifest) -> list[Tensor]:
    record = RunRecord(latents=manifest.latents, text=manifest.text, fps=0.0, datasets=())
    return embed_prompts(prompts, load_text_encoder(record))


def _shape(config: SamplesConfig, manifest: Manifest, patch: Patch) -> tuple[tuple[int, ...], float]:
    """(C, T, H, W) and rate: those that are asked for, or else the most frequent ones of the manifest."""
    columns = [manifest.column(name).to_pylist() for name in ("latent_t", "latent_h", "latent_w", "fps")]
    (t, h, w, _), _ = Counter(zip(*columns, strict=True)).most_common(1)[0]
    shape: tuple[int, ...] = (int(manifest.latents["channels"]), t, h, w)
    stride_t, stride = int(manifest.latents["temporal_stride"]), int(manifest.latents["spatial_stride"])
    if config.size is not None or config.num_frames is not None:
        width, height = config.sides or (w * stride, h * stride)
        num_frames = config.num_frames or 1 + (t - 1) * stride_t
        request = Request(prompt="", width=width, height=height, num_frames=num_frames)
        shape = latent_shape(request, manifest.latents, patch)
    rates = Counter(rate for rate in columns[3] if rate)
    is_video = shape[1] > 1 and rates
    return shape, float(rates.most_common(1)[0][0]) if is_video else 0.0
