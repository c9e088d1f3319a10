"""Latents as they are stored: `latent` in float16, with `logvar` where training draws from a posterior; or `ids`, the
numbers of codes, with the codebook beside them. `lone` or `lone_ids`: frames of the clip, each encoded alone.
`gray_first`, `gray_both_ends`: latents of gray videos. `pictures`: states of their frames.
`features`: maps of an image encoder."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from curate.storage.tensors import tensors_to_bytes
from train.autoencoder.base import Codebook, VideoAutoencoder
from train.autoencoder.config import EncodeConfig
from train.data.generator import keyed_generator
from train.data.tasks.base import GrayVideo

MOST = torch.finfo(torch.float16).max
MAX_NAMED_CHANNELS = 8
FEATURES = "features"
"""Name of the tensor (T, F, h, w): maps of an image encoder, one for each latent frame."""
PICTURES = "pictures"
"""Name of the tensor (n, states, D'): of the first frame, and with `both_ends` of the last."""


def check_fits(config: EncodeConfig, autoencoder: VideoAutoencoder) -> None:
    """See that the autoencoder gives what is to be stored.

    Raises:
        ValueError: it has no posterior, or no codebook.
    """
    if config.posterior != "mean" and not autoencoder.has_posterior:
        raise ValueError(
            f"encode.posterior={config.posterior}: autoencoder {autoencoder.name} gives no Gaussian, as those with a "
            "KL bottleneck do; leave encode.posterior=mean, which stores what it gives"
        )
    if config.store == "ids" and autoencoder.codebook is None:
        raise ValueError(
            f"encode.store=ids: latents of autoencoder {autoencoder.name} are continuous, and have no codes; set "
            "encode.store=values, or take an autoencoder with a VQ or FSQ bottleneck"
        )


def lone_frames_of(config: EncodeConfig, num_frames: int) -> tuple[int, ...]:
    """Of `num_frames` latent frames, those whose last frame is stored as it is encoded alone: the last n. The first
    latent frame is one already."""
    return tuple({"none": (), "last": range(1, num_frames)[-1:], "all": range(1, num_frames)}[config.lone_frames])


def gray_name(kind: GrayVideo) -> str:
    """Of the tensor."""
    return f"gray_{kind}"


def lone_at(tensors: Mapping[str, Tensor], frames: Sequence[int]) -> Tensor:
    """(C, n, H, W) float32: the last frame of each of these latent frames, encoded alone.

    Raises:
        ValueError: it is not stored.
    """
    latent, lone = tensors["latent"].float(), tensors.get("lone")
    alone = latent[:, :1] if lone is None else torch.cat([latent[:, :1], lone.float()], dim=1)
    places = [frame and frame - latent.shape[1] for frame in frames]  # of the last ones, from the end
    if min(places) <= -alone.shape[1]:
        raise ValueError(
            f"got {alone.shape[1] - 1} frames that are encoded alone, and a task shows the last frame of latent frame "
            f"{min(filter(None, frames))} of {latent.shape[1]}; encode with encode.lone_frames=all"
        )
    return alone[:, places]


def picture_of(tensors: Mapping[str, Tensor], gray: GrayVideo | None) -> Tensor | None:
    """(n, D'): states of the frames that a gray video has, of both one after the other; None: they are not stored."""
    if gray is None or PICTURES not in tensors:
        return None
    states = tensors[PICTURES]
    return states[0] if gray == "first" else states.flatten(0, 1)


def arrays(
    latent: Tensor,
    config: EncodeConfig,
    codebook: Codebook | None,
    *key: object,
    lone: Tensor | None = None,
    beside: Mapping[str, Tensor] | None = None,
) -> dict[str, np.ndarray]:
    """What is stored of a latent, by name.

    Args:
        latent: (C, T, H, W) float32, normalized; where `config.posterior` is not the mean, its moments (2 C, T, H, W).
        config: says what is stored.
        codebook: of the autoencoder.
        key: names the latent, for the draw of posterior=sample: it does not depend on who draws it.
        lone: (C, n, H, W) frames that are encoded alone, or their moments, of which the mean is stored.
        beside: further latents, or their moments, likewise; and `pictures`, `features`.

    Raises:
        ValueError: it holds what is not stored: NaN, infinities, or values beyond the range of float16.
    """
    beside = beside or {}
    given = [latent, *beside.values()] if lone is None else [latent, lone, *beside.values()]
    if problem := next(filter(None, map(unfit, given)), None):
        raise ValueError(f"the autoencoder gave {problem}{_remedy(config)}")
    if config.store == "ids":
        assert codebook is not None
        ids = dict(zip(("ids", "lone_ids"), map(codebook.ids, given), strict=False))  # `beside` is refused
        return {name: numbers.numpy().astype(id_type(codebook.num_codes)) for name, numbers in ids.items()}
    parts = {"latent": latent}
    if config.posterior != "mean":
        parts = dict(zip(("latent", "logvar"), latent.chunk(2), strict=True))
    if config.posterior == "sample":
        parts = {"latent": drawn(parts, keyed_generator("posterior", config.posterior_seed, *key))}
    if lone is not None:
        parts["lone"] = _mean(lone, config)
    parts |= {
        name: tensor if name in (PICTURES, FEATURES) else _mean(tensor, config) for name, tensor in beside.items()
    }
    return {name: part.numpy().astype(np.float16) for name, part in parts.items()}


def _mean(latent: Tensor, config: EncodeConfig) -> Tensor:
    return latent if config.posterior == "mean" else latent.chunk(2)[0]


def codebook_bytes(codebook: Codebook) -> bytes:
    """The codebook as it lies beside the ids: tables by number, in float16, as latents of `values` are."""
    return tensors_to_bytes({str(number): table.half() for number, table in enumerate(codebook.tables())})


def drawn(tensors: Mapping[str, Tensor], noise: torch.Generator | None) -> Tensor:
    """(C, T, H, W) float32 of a stored latent: from its posterior where `logvar` is stored. `noise` None: its mean."""
    mean = tensors["latent"].float()
    if noise is None or "logvar" not in tensors:
        return mean
    return mean + (0.5 * tensors["logvar"].float()).exp() * torch.randn(mean.shape, generator=noise)


def id_type(num_codes: int) -> np.dtype:
    """The smallest type of numbers from 0 to `num_codes` - 1."""
    return np.min_scalar_type(num_codes - 1) if num_codes <= 2**16 else np.dtype(np.int32)


def unfit(latent: Tensor) -> str | None:
    """What of (C, T, H, W) float16 cannot hold, with its channels; None: nothing."""
    if bool((latent.abs() <= MOST).all()):
        return None
    kinds = {"NaN": latent.isnan(), "infinite": latent.isinf()}
    kinds[f"beyond ±{MOST:.0f}, the range of float16"] = latent.isfinite() & (latent.abs() > MOST)
    found = {name: where for name, where in kinds.items() if where.any()}
    counts = ", ".join(f"{int(where.sum())} {name}" for name, where in found.items())
    channels = torch.stack(list(found.values())).any(0).flatten(1).any(1).nonzero().flatten().tolist()
    more = " …" if len(channels) > MAX_NAMED_CHANNELS else ""
    named = ", ".join(map(str, channels[:MAX_NAMED_CHANNELS])) + more
    return f"{counts} of {latent.numel()} values, in channels {named} of {len(latent)}"


def _remedy(config: EncodeConfig) -> str:
    dtype = getattr(config.autoencoder, "dtype", "float32")
    if dtype != "float32":
        return f"; it computes in {dtype}: set encode.autoencoder.dtype=float32"
    return "; look at the clip and at the autoencoder's weights and statistics of latents (reelpack autoencoder-check)"
