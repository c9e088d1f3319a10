"""The U-Net as a trainer of fixed shapes writes it: batches of one shape, torch's own layers, no segments.

The same weights as the packed one: what it must equal on equal shapes, and what benchmarks measure it against.
Letters: B samples, T, H, W patches along time, rows and columns, C channels, D features of conditions, m caption
tokens.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from train.model.mixers.attention import CrossAttention, Projections
from train.model.position import Rotation
from train.model.unet.blocks import Convolution, GroupNorm, UNetBlock
from train.model.unet.boxes import EPS
from train.model.unet.network import UNet
from train.packing.batch import PackedBatch


def plain_forward(model: UNet, x: Tensor, batch: PackedBatch) -> Tensor:
    """(B, P, T, H, W) to (B, P, T, H, W), under the conditions of a pack of the B samples, none of whose patches is
    given and whose captions have m tokens each."""
    size, _, num_frames = x.shape[:3]
    vectors, _, text = model.conditioner(batch.timesteps, batch)  # (B, D), (B m, D)
    text = None if text is None else text.unflatten(0, (size, -1))  # (B, m, D)
    rotation = None if model.rotation is None else model.rotation(torch.arange(num_frames, device=x.device))
    x = _pictures(x).contiguous(memory_format=torch.channels_last)  # (B T, P, H, W)
    x = _convolved(model.embed, x)  # (B T, C, H, W)
    skips = list[Tensor]()
    for block, shape in zip(model.blocks, model.config.block_shapes, strict=True):
        x = _block(block, x, skips.pop() if shape.way == "up" else None, vectors, text, num_frames, rotation)
        if shape.way == "down":
            skips.append(x)
    x = _convolved(model.final, F.silu(_normed(model.final_norm, x)))
    return x.unflatten(0, (size, num_frames)).transpose(1, 2)


def _block(
    block: UNetBlock,
    x: Tensor,
    skip: Tensor | None,
    vectors: Tensor,
    text: Tensor | None,
    num_frames: int,
    rotation: Rotation | None,
) -> Tensor:
    """(B T, C, H, W) to (B T, C', H', W')."""
    if block.change is not None and skip is not None:
        x = F.interpolate(x, scale_factor=2)[..., : skip.shape[2], : skip.shape[3]]
    x = x if block.change is None else _convolved(block.change, x)
    x = x if skip is None else torch.cat([x, skip], dim=1)
    residual = block.residual
    h = _convolved(residual.first, F.silu(_normed(residual.norm, x)))
    changes = residual.modulation(F.silu(vectors)).repeat_interleave(num_frames, 0)[..., None, None]
    shift, scale = changes.chunk(2, dim=1)  # 2 × (B T, C', 1, 1)
    h = F.group_norm(h, residual.num_groups, eps=EPS) * (1 + scale) + shift
    x = residual.shortcut(x.movedim(1, -1)).movedim(-1, 1) + _convolved(residual.second, F.silu(h))
    height, width = x.shape[2:]

    def places(x: Tensor) -> Tensor:
        return x.flatten(2).movedim(1, -1)  # (B T, H W, C')

    def back(tokens: Tensor) -> Tensor:
        return tokens.movedim(-1, 1).unflatten(2, (height, width))

    if block.spatial is not None and block.spatial_norm is not None:
        h = places(_normed(block.spatial_norm, x))
        x = x + back(_attended(block.spatial, h, h))
    if block.cross is not None and block.cross_norm is not None and text is not None:
        h = places(_normed(block.cross_norm, x)).reshape(len(vectors), -1, x.shape[1])  # (B, T H W, C')
        x = x + back(_attended(block.cross, h, text).reshape(len(x), -1, x.shape[1]))
    if block.temporal is None or block.temporal_norm is None or num_frames == 1:
        return x
    h = places(_normed(block.temporal_norm, x)).unflatten(0, (-1, num_frames))  # (B, T, H W, C')
    if isinstance(block.temporal, Convolution):
        h = _convolved(block.temporal, F.silu(h).movedim(-1, 1)).movedim(1, -1)
    else:
        h = h.transpose(1, 2).flatten(0, 1)  # (B H W, T, C')
        h = _attended(block.temporal, h, h, rotation).unflatten(0, (len(vectors), -1)).transpose(1, 2)
    return x + back(h.flatten(0, 1))


def _pictures(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(0, 1)


def _convolved(layer: Convolution, x: Tensor) -> Tensor:
    kh, kw = layer.weight.shape[2:]
    return F.conv2d(x, layer.weight, layer.bias, layer.stride, (kh // 2, kw // 2))


def _normed(layer: GroupNorm, x: Tensor) -> Tensor:
    return F.group_norm(x, layer.num_groups, layer.weight, layer.bias, EPS)


def _attended(layer: Projections, x: Tensor, context: Tensor, rotation: Rotation | None = None) -> Tensor:
    """(b, n, C) over (b, m, D) to (b, n, C)."""
    assert isinstance(layer, CrossAttention) or x is context
    q = layer.norm_q(layer.to_q(x).unflatten(-1, (layer.num_heads, -1)))  # (b, n, H, D_head)
    k, v = layer.to_kv(context).unflatten(-1, (2, layer.num_heads, -1)).unbind(-3)
    k = layer.norm_k(k)
    if rotation is not None:
        q, k = rotation.apply(q), rotation.apply(k)
    out = F.scaled_dot_product_attention(*(y.transpose(1, 2) for y in (q, k, v)))  # (b, H, n, D_head)
    return layer.out(out.transpose(1, 2).flatten(2))
