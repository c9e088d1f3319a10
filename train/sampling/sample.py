"""Sampling from a run: prompts and shapes to latents.

Videos of different length and size are sampled together, in packs of the run's token budget. A video does not depend
on the pack that it is in (`generate`).
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from curate.device import pick_device
from curate.media.encode import encode_mp4
from curate.storage.place import path_of
from train.data.fingerprint import NO_TEXT
from train.data.generator import keyed_generator
from train.data.tasks.base import task_for
from train.estimate.memory import gib, least_sampling_bytes, machine_bytes
from train.model.base import Denoiser
from train.packing.batch import Sample
from train.packing.patches import grid_size
from train.packing.shapes import Patch
from train.run.config import TrainConfig
from train.run.folder import RunRecord, autocast, checkpoint_steps, load_model
from train.sampling.config import SampleConfig
from train.sampling.generate import generate, packs_to_generate

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One video, or with one frame an image."""

    prompt: str  # "": none
    width: int  # px
    height: int  # px
    num_frames: int
    label: str | None = None  # a class by name, or by number
    inputs: Mapping[str, Tensor] = field(default_factory=dict)  # by the task's names, (C, T', H, W) each: `start` …


@dataclass(frozen=True, kw_only=True, slots=True)
class Generated:
    """A sampled latent, for the autoencoder of the run."""

    request: Request
    latent: Tensor  # (C, T, H, W) float32, normalized as the training latents are
    fps: float  # 0 for an image


def sample(run: str | Path, requests: Sequence[Request], config: SampleConfig) -> list[Generated]:
    """Draw one latent per request.

    Raises:
        ValueError: no trained run, a size or length that the autoencoder and the patch do not divide, a text
            encoder other than the run's, or a sampler that does not fit the run's objective.
    """
    model, train_config, record = load_model(path_of(run), weights=config.weights, step=config.step)
    if unknown := sorted(set(config.conditions) - set(train_config.model.conditions)):
        known = ", ".join(train_config.model.conditions) or "no numbers"
        raise ValueError(f"sample.conditions: the run was not trained on {', '.join(unknown)}; it was on {known}")
    config.check_objective(train_config.objective)
    device = pick_device(config.device, setting="sample.device")
    model = model.to(device)
    patch = train_config.model.patch
    shapes = [latent_shape(request, record.latents, patch) for request in requests]
    for request in requests:
        check_size(request, config, train_config, record.latents)
    fps = [0.0 if request.num_frames == 1 else config.fps or record.fps for request in requests]
    for request, rate in zip(requests, fps, strict=True):
        if request.num_frames > 1 and not rate:
            raise ValueError(
                f"got {request.num_frames} frames, and the run was trained on images alone: it knows no rate; "
                "sample 1 frame, or set sample.fps to try a video"
            )
    texts = _texts([request.prompt for request in requests], train_config, record)
    negatives = _texts([config.negative] * len(requests), train_config, record) if config.negative else None
    weaker = _weaker(run, config, train_config, record)
    labels = [class_number(request.label, train_config, record) for request in requests]
    samples = [
        Sample(
            clip_id=str(i),
            latent=torch.zeros(shape),
            noise=torch.randn(shape, generator=keyed_generator("sample", config.seed, i)),
            timestep=1.0,
            fps=fps[i],
            temporal_stride=int(record.latents["temporal_stride"]),
            text=texts[i],
            scalars=config.conditions,
            label=labels[i],
        )
        for i, shape in enumerate(shapes)
    ]
    tasks = train_config.data.tasks
    samples = [
        task_for(tasks, request.inputs).condition(one, patch, request.inputs) if request.inputs else one
        for request, one in zip(requests, samples, strict=True)
    ]
    counts = [math.prod(grid_size(shape, patch)) for shape in shapes]
    objective, text_dim = train_config.objective.build(), int(record.text["dim"])
    latents: dict[int, Tensor] = {}
    for indices in packs_to_generate(counts, config, train_config.data.plan):
        chosen = [samples[i] for i in indices]
        with autocast(train_config, device):
            drawn = generate(
                model,
                chosen,
                objective,
                config,
                train_config.model,
                text_dim,
                device,
                weaker=None if weaker is None else (weaker.to(device), weaker.config),
                negatives=None if negatives is None else [negatives[i] for i in indices],
            )
        latents |= zip(indices, drawn, strict=True)
    return [Generated(request=request, latent=latents[i], fps=fps[i]) for i, request in enumerate(requests)]


def latent_shape(request: Request, latents: dict[str, Any], patch: Patch) -> tuple[int, int, int, int]:
    """(C, T, H, W) of a request under the run's autoencoder, which keeps the first frame and strides over the rest.

    Raises:
        ValueError: naming the nearest size that fits.
    """
    stride_t, stride = int(latents["temporal_stride"]), int(latents["spatial_stride"])
    near = 1 + round((request.num_frames - 1) / stride_t)
    # A frame that is left over fills a patch of its own, see `train.packing.patches`.
    lengths = [1 + stride_t * (t - 1) for t in range(1, near + patch[0] + 1) if t % patch[0] <= 1]
    frames = min(lengths, key=lambda length: abs(length - request.num_frames))
    steps = ((request.height, stride * patch[1]), (request.width, stride * patch[2]))
    height, width = (max(1, round(px / step)) * step for px, step in steps)
    if (frames, height, width) != (request.num_frames, request.height, request.width):
        raise ValueError(
            f"got {request.num_frames} frames of {request.width}x{request.height}; the nearest that this run's "
            f"autoencoder and patch can make are {frames} frames of {width}x{height}"
        )
    shape = (int(latents["channels"]), 1 + (frames - 1) // stride_t, height // stride, width // stride)
    grid_size(shape, patch)
    return shape


def check_size(request: Request, config: SampleConfig, train_config: TrainConfig, latents: dict[str, Any]) -> None:
    """See that this machine can hold a video of this size at all.

    Raises:
        ValueError: it cannot.
    """
    shape = latent_shape(request, latents, train_config.model.patch)
    grid, pixels = grid_size(shape, train_config.model.patch), request.num_frames * request.width * request.height
    needed = least_sampling_bytes(train_config.model, grid, math.prod(shape), pixels, config.num_branches)
    if needed > (has := machine_bytes()):
        raise ValueError(
            f"{request.num_frames} frames of {request.width}x{request.height} are {math.prod(grid):,} tokens and take "
            f"at least {gib(needed)}; this machine has {gib(has)}. Ask for a smaller size or fewer frames"
        )


def max_input_frames(request: Request, name: str, config: TrainConfig, latents: dict[str, Any]) -> int:
    """The largest number of latent frames of the input `name` of a request, as the run was trained.

    Raises:
        ValueError: the run was trained on no task with this input, or the request is too short for it.
    """
    shape = latent_shape(request, latents, config.model.patch)
    return task_for(config.data.tasks, [name]).max_latent_frames(name, shape[1], config.model.patch)


def _weaker(run: str | Path, config: SampleConfig, own: TrainConfig, record: RunRecord) -> Denoiser | None:
    """The weaker model of autoguidance, where there is such a rule.

    Raises:
        ValueError: it is the model itself, or was trained on other latents, text embeddings, patches or objective.
    """
    rule = config.weaker
    if rule is None:
        return None
    folder, step = path_of(rule.run or run), rule.step
    if rule.run is None and step is None:
        steps = checkpoint_steps(folder)
        if len(steps) < 2:
            raise ValueError(
                f"sample.guidance: autoguidance needs an earlier checkpoint, and {folder} has one alone; set `run` to "
                "that of a smaller model, or keep earlier ones (train.checkpoint.keep_every)"
            )
        step = steps[0]
    model, other, its_record = load_model(folder, weights=config.weights, step=step)
    pairs = {
        "latents": (record.latents["fingerprint"], its_record.latents["fingerprint"]),
        "text embeddings": (record.text["fingerprint"], its_record.text["fingerprint"]),
        "train.model.patch": (own.model.patch, other.model.patch),
        "train.objective": (own.objective, other.objective),
    }
    for name, (ours, theirs) in pairs.items():
        if ours != theirs:
            raise ValueError(
                f"sample.guidance: the weaker model of {folder} has {name} {theirs}, and {run} has {ours}; expected "
                "the same"
            )
    return model


def _texts(texts: Sequence[str], config: TrainConfig, record: RunRecord) -> list[Tensor | None]:
    """Token states of the prompts; the encoder is not loaded where there is nothing to embed."""
    prompts = [text for text in dict.fromkeys(texts) if text]
    if prompts and not config.model.reads_captions:
        raise ValueError("the run was trained without captions (train.model.text=none); leave the prompts out")
    if prompts and record.text["fingerprint"] == NO_TEXT["fingerprint"]:
        raise ValueError("the run was trained on clips without captions; leave the prompts out")
    states = dict(zip(prompts, embed_prompts(prompts, record) if prompts else (), strict=True))
    return [states.get(text) for text in texts]


def class_number(label: str | None, config: TrainConfig, record: RunRecord) -> int | None:
    """The number of a class, named or counted.

    Raises:
        ValueError: the run knows no such class.
    """
    if label is None:
        return None
    if record.labels is not None and label in record.labels:
        return record.labels.index(label)
    num_classes = config.model.num_classes or 0
    if label.isdecimal() and int(label) < num_classes:
        return int(label)
    known = ", ".join(record.labels or ()) or (f"0 to {num_classes - 1}" if num_classes else "none")
    raise ValueError(f"label {label!r}: the run was trained on no such class; it knows {known}")


def embed_prompts(prompts: Sequence[str], record: RunRecord) -> list[Tensor]:
    """Token states (n, D_text) of each prompt, by the encoder that embedded the training captions.

    Raises:
        ValueError: the encoder found here is another one.
    """
    from curate.encoders.text import TextEncoder
    from curate.encoders.text_config import TextEncoderConfig

    encoder = TextEncoder(TextEncoderConfig.model_validate(record.text["config"]))
    if encoder.fingerprint != record.text["encoder_fingerprint"]:
        raise ValueError(
            f"text encoder {record.text['encoder']}: got fingerprint {encoder.fingerprint}, the run was trained with "
            f"{record.text['encoder_fingerprint']}; fetch the weights it was trained with"
        )
    encoder.setup()
    limit = encoder.config.max_tokens
    for prompt, count in zip(prompts, encoder.count_tokens(prompts), strict=True):
        if count > limit:
            logger.warning("prompt %r: cut off at %d of %d tokens (the run's text.max_tokens)", prompt, limit, count)
    return [torch.from_numpy(states).float() for states in encoder.encode(list(prompts))]


def write_video(path: Path, rgb: np.ndarray, fps: float) -> None:
    """Frames (T, H, W, 3) uint8 as an mp4; a single one as a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if len(rgb) > 1:
        path.write_bytes(encode_mp4(rgb, fps))
        return
    from PIL import Image

    Image.fromarray(rgb[0]).save(path)
