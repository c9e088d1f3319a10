"""Sampling from a run: prompts and shapes to latents.

Videos of different length and size are sampled together, in packs of the run's token budget. A video does not depend
on the pack that it is in (`generate`).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from train.data.generator import keyed_generator
from train.data.plan import PlanConfig
from train.model.conditioning import absent_caption
from train.packing.batch import Sample
from train.packing.patches import grid_size
from train.run.folder import autocast
from train.sampling.config import SampleConfig
from train.sampling.generate import generate, packs_to_generate
from train.sampling.given import conditioned
from train.sampling.invert import edit
from train.sampling.loaded import LoadedRun, embed_prompts
from train.sampling.request import Request, check_requests, class_number, latent_shape, rate_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Generated:
    """A sampled latent, for the autoencoder of the run."""

    request: Request
    latent: Tensor  # (C, T, H, W) float32, normalized as the training latents are
    fps: float  # 0 for an image
    seed: int  # of its noise


def sample(run: str | Path, requests: Sequence[Request], config: SampleConfig) -> list[Generated]:
    """Draw one latent per request.

    Raises:
        ValueError: no trained run, a size or length that the autoencoder and the patch do not divide, a text
            encoder other than the run's, or a sampler that does not fit the run's objective.
    """
    drawn = dict(draw(LoadedRun(run, config), requests, config))
    return [drawn[i] for i in range(len(requests))]


def draw(
    run: LoadedRun,
    requests: Sequence[Request],
    config: SampleConfig,
    on_progress: Callable[[float], None] | None = None,
) -> Iterator[tuple[int, Generated]]:
    """One latent per request with the request's number, pack by pack.

    Args:
        run: what draws.
        requests: what is drawn.
        config: how; checkpoint, weights and device are those that `run` was loaded with.
        on_progress: is told the share that is done before each step; what it raises ends the sampling.

    Raises:
        ValueError: as `sample`.
    """
    train_config, record = run.config, run.record
    check_requests(requests, config, train_config, record)
    patch, tasks = train_config.model.patch, train_config.data.tasks
    shapes = [latent_shape(request, record.latents, patch) for request in requests]
    fps = [rate_of(request, config, record) for request in requests]
    negatives = [config.negative if request.negative is None else request.negative for request in requests]
    sources = [request.source for request in requests]
    states = _texts([*(request.prompt for request in requests), *negatives, *sources], run)
    samples = [
        Sample(
            clip_id=str(request.part),  # of the key of its noise
            latent=torch.zeros(shape),
            noise=torch.randn(shape, generator=keyed_generator("sample", seed_of(i, request, config), request.part)),
            timestep=1.0,
            fps=fps[i],
            temporal_stride=int(record.latents["temporal_stride"]),
            text=states[i],
            scalars=config.conditions,
            label=class_number(request.label, train_config, record),
        )
        for i, (request, shape) in enumerate(zip(requests, shapes, strict=True))
    ]
    samples = [
        conditioned(one, patch, request.given, tasks) if request.given else one
        for request, one in zip(requests, samples, strict=True)
    ]
    samples = [
        _conditioned(one, request, run, config, seed_of(i, request, config))
        for i, (request, one) in enumerate(zip(requests, samples, strict=True))
    ]
    weaker = run.weaker(config)
    counts = [math.prod(grid_size(shape, patch)) for shape in shapes]
    done = 0
    for indices in _packs([request.given.inverted for request in requests], counts, config, train_config.data.plan):
        num_tokens = sum(counts[i] for i in indices)

        def report(share: float, done: int = done, num_tokens: int = num_tokens) -> None:
            if on_progress is not None:
                on_progress((done + share * num_tokens) / sum(counts))

        with autocast(train_config, run.device):
            drawn: dict[str, Any] = {
                "objective": train_config.objective.build(),
                "config": config,
                "shape": run.model.config,
                "text_dim": int(record.text["dim"]),
                "device": run.device,
                "weaker": None if weaker is None else (weaker, weaker.config),
                "negatives": [states[len(requests) + i] for i in indices] if any(negatives) else None,
                "on_progress": report,
            }
            own = [samples[i] for i in indices]
            if requests[indices[0]].given.inverted:
                clips = [replace(samples[i], text=states[2 * len(requests) + i]) for i in indices]
                absent = absent_caption(run.model) if config.null_text else None
                latents = edit(run.model, clips, own, **drawn, absent=absent)
            else:
                latents = generate(run.model, own, **drawn, seeds=[seed_of(i, requests[i], config) for i in indices])
        done += num_tokens
        for i, latent in zip(indices, latents, strict=True):
            yield i, Generated(request=requests[i], latent=latent, fps=fps[i], seed=seed_of(i, requests[i], config))


def _packs(
    is_inverted: Sequence[bool], counts: Sequence[int], config: SampleConfig, plan: PlanConfig
) -> Iterator[list[int]]:
    """Numbers of requests that are drawn together: clips that are inverted are, and all others."""
    for kind in (False, True):
        numbers = [number for number, inverted in enumerate(is_inverted) if inverted is kind]
        if numbers:
            packs = packs_to_generate([counts[number] for number in numbers], config, plan)
            yield from ([numbers[i] for i in pack] for pack in packs)


def _conditioned(one: Sample, request: Request, run: LoadedRun, config: SampleConfig, seed: int) -> Sample:
    """With what the stage below gives, on the grid of the sample."""
    t, h, w = one.latent.shape[1:]
    for settings in run.config.data.conditioning:
        shown = settings.on_grid(request.conditioning[settings.kind], (t, h, w))
        generator = keyed_generator("conditioning", settings.kind, seed, request.part)
        one = settings.condition(one, shown, config.conditioning_noise, generator)
    return one


def seed_of(number: int, request: Request, config: SampleConfig) -> int:
    """Of the noise of a request, by its number among those that are drawn together."""
    return config.seed + number if request.seed is None else request.seed


def _texts(texts: Sequence[str], run: LoadedRun) -> list[Tensor | None]:
    """Token states of the prompts; the encoder is not loaded where there is nothing to embed."""
    prompts = [text for text in dict.fromkeys(texts) if text]
    states = dict(zip(prompts, embed_prompts(prompts, run.text_encoder) if prompts else (), strict=True))
    return [states.get(text) for text in texts]
