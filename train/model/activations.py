"""Bytes that a forward pass keeps for its backward pass, measured."""

import torch
from torch import Tensor

from train.model.base import Denoiser, Losses
from train.packing.batch import Sample, pack


def bytes_per_token(model: Denoiser, losses: Losses, dtype: torch.dtype) -> float:
    """Of a small model: the slope between a short and a long video."""
    (short, n), (long, m) = (_kept_bytes(model, frames, losses, dtype) for frames in (2, 6))
    return (long - short) / (m - n)


def _kept_bytes(model: Denoiser, num_patches: int, losses: Losses, dtype: torch.dtype) -> tuple[int, int]:
    """Bytes that a pack of one video of `num_patches` × 8 × 8 patches keeps, and its tokens."""
    pt, ph, pw = model.config.patch
    latent = torch.zeros(model.channels, num_patches * pt, 8 * ph, 8 * pw)
    text = torch.zeros(1, model.text_dim)
    picture = getattr(model.config, "picture", None)
    states = None if picture is None else torch.zeros(1, picture.dim)
    sample = Sample(clip_id="", latent=latent, noise=latent, timestep=0.5, fps=0.0, text=text, picture=states)
    batch = pack([sample], model.config.patch, model.text_dim, model.config.conditions)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor.detach()  # a node that holds its own output is never freed

    half = dtype is torch.bfloat16
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        found = losses(model, batch)
    assert found.requires_grad
    return sum(storage.nbytes() for storage in kept.values()), batch.segments.num_tokens
