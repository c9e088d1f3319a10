"""An image model as the first state of a video model: `reelpack train-import --temporal`.

Layers along time (Video LDM, Blattmann et al. 2023, §3.1), tubelets (ViViT, Arnab et al. 2021, §3.4), or another
pattern of attention. By `Denoiser.adapted`, as `train.init` does it: an image is treated as before, and with layers
along time each frame of a video as an image.
"""

from typing import Any, get_args

import torch
from pydantic import ValidationError

from train.convert.layouts import Tubelet
from train.model.base import Denoiser
from train.model.dit_config import DiTConfig
from train.model.mixers.attention_config import AttentionConfig
from train.model.mixers.linear_config import LinearConfig

IMAGE_SAFE_PATTERNS = ("joint", "spatial", "factorized_self_attention")
"""Patterns in which a patch of an image sees all of the image, in every block and with every head."""


def inflated(
    model: Denoiser,
    *,
    temporal: str | None = None,
    pattern: str | None = None,
    frames_per_patch: int = 1,
    tubelet: Tubelet = "central",
) -> Denoiser:
    """A video model that begins with the function of an image model; its new weights are always the same.

    Args:
        model: of images.
        temporal: layers along time that its blocks get; None: none.
        pattern: of its attention; None: with layers along time of a DiT spatial, else as it is.
        frames_per_patch: of a DiT.
        tubelet: which of them the image model sees.

    Raises:
        ValueError: frames meet in the model already, or it cannot have these parts.
    """
    changes = _changes(model, temporal, pattern, frames_per_patch)
    try:
        config: Any = type(model.config).model_validate(model.config.model_dump() | changes)
    except ValidationError as error:
        raise ValueError("; ".join(str(one["msg"]).removeprefix("Value error, ") for one in error.errors())) from error
    sizes = {"channels": model.channels, "text_dim": model.text_dim, "num_outputs": model.num_outputs}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        video: Denoiser = config.build(**sizes)
    video.silence_additions(model.config)
    state = video.state_dict() | video.adapted(model.config, model.state_dict(), tubelet)
    video.load_state_dict(state, assign=True)  # what was there keeps its type
    return video.eval()


def _changes(model: Denoiser, temporal: str | None, pattern: str | None, frames_per_patch: int) -> dict[str, Any]:
    """Settings of the video model that differ."""
    config = model.config
    known = (
        get_args(type(config).model_fields["temporal"].annotation) if "temporal" in type(config).model_fields else ()
    )
    if temporal is not None and temporal not in known:
        raise ValueError(f"--temporal {temporal}: a {config.kind} has {' or '.join(known) or 'no layers along time'}")
    if isinstance(config, DiTConfig):
        return _of_transformer(config, temporal, pattern, frames_per_patch)
    if pattern is not None or frames_per_patch != 1:
        raise ValueError(
            f"got a model of kind {config.kind}, and --pattern and --frames-per-patch are of a dit; give --temporal"
        )
    if getattr(config, "temporal", "none") != "none":
        raise ValueError(f"frames meet in the model already: it has temporal {config.temporal}; expected none")
    return {} if temporal is None else {"temporal": temporal}


def _of_transformer(
    config: DiTConfig, temporal: str | None, pattern: str | None, frames_per_patch: int
) -> dict[str, Any]:
    own = getattr(config.mixer, "pattern", None)
    if config.temporal != "none" or own not in (None, "joint", "spatial") or config.patch[0] != 1:
        raise ValueError(
            f"frames meet in the model already: it has temporal {config.temporal}, pattern {own} and patches of "
            f"{config.patch[0]} frames; expected an image model: none, joint or spatial, and 1"
        )
    if pattern is not None and own is None:
        raise ValueError(f"--pattern {pattern} is of attention, and the model's mixer is {config.mixer.kind}")
    if pattern is not None and pattern not in IMAGE_SAFE_PATTERNS:
        raise ValueError(
            f"--pattern {pattern}: under it an image's patches would see less than in the image model; expected "
            f"{', '.join(IMAGE_SAFE_PATTERNS)}"
        )
    changes: dict[str, Any] = {"patch": (frames_per_patch, *config.patch[1:]), "temporal": temporal or "none"}
    if pattern is None and temporal not in (None, "none"):
        pattern = "spatial"
    if pattern is not None and isinstance(config.mixer, AttentionConfig | LinearConfig):
        changes["mixer"] = config.mixer.model_copy(update={"pattern": pattern})
    return changes
