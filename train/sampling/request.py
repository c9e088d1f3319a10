"""What can be asked of a run: a video by its prompt, size and length, checked before anything is loaded."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from train.data.fingerprint import NO_TEXT
from train.data.tasks.base import canvas_of
from train.estimate.memory import gib, least_sampling_bytes, machine_bytes
from train.packing.patches import grid_size
from train.packing.shapes import Patch
from train.run.config import TrainConfig
from train.run.folder import RunRecord
from train.sampling.config import SampleConfig
from train.sampling.given import Given, check_trained


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One video, or with one frame an image."""

    prompt: str  # "": none
    width: int  # px
    height: int  # px
    num_frames: int
    label: str | None = None  # a class by name, or by number
    given: Given = field(default_factory=Given)  # what it is generated from, besides the prompt
    seed: int | None = None  # of its noise; None: sample.seed plus the number of the request
    negative: str | None = None  # None: sample.negative
    conditioning: Mapping[str, Tensor] = field(default_factory=dict)  # by kind, (C, T', H', W'): of the stage below
    source: str = ""  # what `given.video` shows, where it is inverted; "": not said
    part: int = 0  # of a video that is drawn in several; each has noise of its own


def size_of(text: str, option: str) -> tuple[int, int]:
    """Width and height, px, of WIDTHxHEIGHT.

    Args:
        text: what was given.
        option: names it in the message.

    Raises:
        ValueError: it is no size.
    """
    match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text)
    if not match:
        raise ValueError(f"{option} {text}: expected WIDTHxHEIGHT in pixels, such as 128x80")
    return int(match[1]), int(match[2])


def check_requests(
    requests: Sequence[Request], config: SampleConfig, train_config: TrainConfig, record: RunRecord
) -> None:
    """See that a run can draw these, before it is loaded.

    Raises:
        ValueError: as `sample`.
    """
    if unknown := sorted(set(config.conditions) - set(train_config.model.conditions)):
        known = ", ".join(train_config.model.conditions) or "no numbers"
        raise ValueError(f"sample.conditions: the run was not trained on {', '.join(unknown)}; it was on {known}")
    config.check_objective(train_config.objective)
    check_conditioning_noise(config, train_config)
    patch = train_config.model.patch
    for request in requests:
        check_size(request, config, train_config, record.latents)
        rate_of(request, config, record)
        class_number(request.label, train_config, record)
        if request.given:
            canvas = canvas_of(latent_shape(request, record.latents, patch), patch)
            check_trained(train_config.data.tasks, canvas, request.given.shown(canvas, patch))
        if config.strength < 1 and request.given.video is None:
            raise ValueError(
                f"sample.strength={config.strength:g} starts from a video, and none is given; supply one, or set 1"
            )
        if request.given.inverted:
            config.check_inversion()
            _check_has_null(config, train_config, request)
        negative = config.negative if request.negative is None else request.negative
        if negative and not config.drops_caption:
            raise ValueError(
                f"negative {negative!r}: no rule of sample.guidance drops the caption, in whose place the "
                "negative prompt stands; expected one, such as guidance=4"
            )
        _check_conditioning(request, train_config)
        if request.prompt or negative or request.source:
            _check_reads_captions(train_config, record)


def _check_has_null(config: SampleConfig, train_config: TrainConfig, request: Request) -> None:
    if config.null_text and not train_config.model.reads_captions:
        raise ValueError(
            "sample.null_text fits what stands for no caption, and the run was trained without captions "
            "(train.model.text=none); leave it out"
        )
    if config.null_text and request.negative:
        raise ValueError(
            f"sample.null_text fits what stands for no caption, and the negative prompt {request.negative!r} stands "
            "in its place; leave one of them out"
        )


def check_conditioning_noise(config: SampleConfig, train_config: TrainConfig) -> None:
    """See that the noise of what a stage is given is no more than in training.

    Raises:
        ValueError: it is.
    """
    for one in train_config.data.conditioning:
        if config.conditioning_noise > one.max_noise:
            raise ValueError(
                f"sample.conditioning_noise={config.conditioning_noise:g}: the run was trained on {one.kind} with "
                f"noise of 0 to {one.max_noise:g}; lower it"
            )


def _check_conditioning(request: Request, train_config: TrainConfig) -> None:
    trained, given = {one.kind for one in train_config.data.conditioning}, set(request.conditioning)
    if trained - given:
        raise ValueError(
            "the run is a stage of a cascade: it was trained on samples that are conditioned on "
            f"{', '.join(sorted(trained))}; name the run of the stage below first (`reelpack sample BELOW RUN`)"
        )
    if given - trained:
        raise ValueError(
            f"got {', '.join(sorted(given - trained))}, and the run was conditioned on "
            f"{', '.join(sorted(trained)) or 'nothing'} (train.data.conditioning)"
        )


def _check_reads_captions(config: TrainConfig, record: RunRecord) -> None:
    if not config.model.reads_captions:
        raise ValueError("the run was trained without captions (train.model.text=none); leave the prompts out")
    if record.text["fingerprint"] == NO_TEXT["fingerprint"]:
        raise ValueError("the run was trained on clips without captions; leave the prompts out")


def notes_on(request: Request, latents: dict[str, Any]) -> list[str]:
    """What can be drawn but is larger or longer than all that the run was trained on."""
    settings = latents.get("config", {})
    largest, longest = (settings.get(name, math.inf) for name in ("max_area_px", "max_frames"))
    if request.height * request.width <= largest and request.num_frames <= longest:
        return []
    return [
        f"{request.num_frames} frames of {request.width}x{request.height}: the run was trained on at most {longest} "
        f"frames of {largest} px (encode.max_frames, max_area_px); expect repeated objects, or take a smaller size"
    ]


def rate_of(request: Request, config: SampleConfig, record: RunRecord) -> float:
    """Frames per second; 0 for an image.

    Raises:
        ValueError: of a video no rate is known.
    """
    rate = 0.0 if request.num_frames == 1 else config.fps or record.fps
    if request.num_frames > 1 and not rate:
        raise ValueError(
            f"got {request.num_frames} frames, and the run was trained on images alone: it knows no rate; "
            "sample 1 frame, or set sample.fps to try a video"
        )
    return rate


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
