"""First weights of a DiT from those of another DiT: `train.init`.

What is new (captions, labels, rates, scalar conditions) starts without effect: the run begins with the other
model's function. An image model becomes one of videos: its patches may become tubelets (ViViT, Arnab et al. 2021,
§3.4), and blocks get layers along time (Video LDM, Blattmann et al. 2023, §3.1), or another token mixer. Rates of
frames then begin as that of images, the only one that it was trained at. Another number of classes begins with "no
label" in each of them. Channels that are shown beside the noisy ones are read with weights of zero.
"""

import logging
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.convert.layouts import PARTS, Tubelet, inflate_embedding, with_silent_sublayer
from train.model.base import Denoiser
from train.model.conditioning import FREQUENCY_WIDTH, Conditioner
from train.model.dit_config import DiTConfig

logger = logging.getLogger(__name__)


def adapted(
    model: Denoiser, config: DiTConfig, source: DiTConfig, state: dict[str, Tensor], tubelet: Tubelet
) -> dict[str, Tensor]:
    """Weights of a DiT of `source`, brought to the shapes of `model`, one of `config`, where that is possible.

    Raises:
        ValueError: the models predict different numbers of values for a feature.
    """
    _check_outputs(state, source, model)
    if added := max(0, config.shown_channels - source.shown_channels):
        silent = F.pad(state["embed.weight"], (0, added * math.prod(source.patch)))
        state = state | {"embed.weight": silent}
    if state["embed.weight"].shape != model.state_dict()["embed.weight"].shape:
        state = _inflated(state, source, model, tubelet)
    if len(config.windows(0)) > len(source.windows(0)):
        state = _with_second_mixer(state, source)
    if config.frames_apart and source.temporal == "none":
        state = with_rates_of_images(state)
    return with_classes(state, model)


@torch.no_grad()
def silence_additions(model: Denoiser) -> None:
    """What DiT does not have starts without effect. (Cross-attention already does.)"""
    for conditioner in model.conditioners:
        silence_conditioner(conditioner)


@torch.no_grad()
def silence_conditioner(conditioner: Conditioner) -> None:
    """Captions, labels, rates and numbers start without effect on the condition vector."""
    scalars = [
        layer for one in (*conditioner.extras, *conditioner.noise.values()) for layer in (one.scalar.mlp[2], one)
    ]
    caption = conditioner.caption
    pools = [] if caption is None or caption.pool is None else [caption.pool]
    rates = [] if conditioner.fps is None else [conditioner.fps.mlp[2]]
    labels = [] if conditioner.label is None else [conditioner.label.table]
    for layer in [*scalars, *pools, *rates, *labels]:
        for parameter in layer.parameters(recurse=isinstance(layer, nn.Linear | nn.Embedding)):
            parameter.zero_()


@torch.no_grad()
def silence_second_mixer(model: Denoiser) -> None:
    """Where it has no gate."""
    for block in model.blocks:
        block.self_attentions[1].out.weight.zero_()


def _check_outputs(state: dict[str, Tensor], source: DiTConfig, model: Denoiser) -> None:
    """See that the folder's model predicts as many values as the run's."""
    features = state["embed.weight"].shape[1] - source.shown_channels * math.prod(source.patch)
    theirs = state["final.linear.bias"].shape[0] // features
    if theirs != model.num_outputs:
        raise ValueError(
            f"its model predicts {theirs} values per feature, the run's {model.num_outputs}; set "
            f"train.objective to a DDPM with learn_sigma={str(theirs == 2).lower()}, or leave train.init"
        )


def _inflated(state: dict[str, Tensor], source: DiTConfig, model: Denoiser, tubelet: Tubelet) -> dict[str, Tensor]:
    """Weights of patches of one frame for patches of several, if that is the difference."""
    (frames, *image), (source_frames, *source_image) = model.config.patch, source.patch
    features = model.channels * image[0] * image[1]
    if source_frames != 1 or image != source_image or state["embed.weight"].shape[1] != features:
        return state
    patches = state["embed.weight"].unflatten(1, (model.channels, *image))  # (D, C, ph, pw)
    inflated = {"embed.weight": inflate_embedding(patches, frames, tubelet).flatten(1)}
    for part in ("weight", "bias"):
        out = state[f"final.linear.{part}"]  # (C ph pw, …), with learned variances twice as many
        out = out.unflatten(0, (-1, 1, image[0] * image[1])).expand(-1, frames, -1, *out.shape[1:])
        inflated[f"final.linear.{part}"] = out.flatten(0, 2).contiguous()
    return state | inflated


def _with_second_mixer(state: dict[str, Tensor], source: DiTConfig) -> dict[str, Tensor]:
    """Modulation of blocks that get a second self-attention: its gate is zero, and so are its scale and shift."""
    if not source.modulated:
        return state
    own = {"block": "modulation.linear", "lora": "modulation.linear.1", "shared": "modulation.linear"}[source.adaln]
    names = [f"blocks.{block}.{own}" for block in range(source.depth)]
    names += [] if source.adaln == "block" else ["shared_modulation"]
    whole = [f"{name}.{part}" for name in names for part in PARTS if f"{name}.{part}" in state]
    return state | {name: with_silent_sublayer(state[name]) for name in whole}


def with_rates_of_images(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights under which every rate is embedded as 0, that of images, until it is learned otherwise."""
    changed: dict[str, Tensor] = {}
    for name in [name for name in state if name.endswith("fps.mlp.2.weight")]:
        mlp = name.removesuffix("2.weight")
        weights = [[state[f"{mlp}{layer}.{part}"].float() for part in PARTS] for layer in (0, 2)]
        sinusoids = torch.arange(FREQUENCY_WIDTH) < FREQUENCY_WIDTH // 2  # of 0: cosines, then sines
        of_images = F.linear(F.silu(F.linear(sinusoids.float(), *weights[0])), *weights[1])  # (D,)
        changed |= {name: torch.zeros_like(state[name]), f"{mlp}2.bias": of_images.to(state[name].dtype)}
    return state | changed


def with_classes(state: dict[str, Tensor], model: Denoiser) -> dict[str, Tensor]:
    """Tables of as many classes as the run has: each begins as the folder's row for "no label", its last."""
    ours = model.state_dict()
    tables = [name for name in state.keys() & ours.keys() if name.endswith(".label.table.weight")]
    others = [name for name in tables if len(state[name]) != len(ours[name])]
    for name in others:
        logger.info("%s: %d classes there, %d here: all start new", name, len(state[name]) - 1, len(ours[name]) - 1)
    return state | {name: state[name][-1:].expand(len(ours[name]), -1).clone() for name in others}
