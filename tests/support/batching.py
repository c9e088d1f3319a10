"""The same samples as packs, as padded batches, as buckets of one shape, and as plain batches without segments.

All but the last run the very same model and kernels, so that only the batching differs. Nothing is charged to the
others that their trainers could avoid: a padded batch has no mask to build or to read (its attention goes over the
padding, as with a mask, or stops at the real length, as trainers do that take the padding out around the kernel), its
captions are not padded, it takes as many samples as still fit; and buckets drop nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from train.data.plan import Counts, PlanConfig, Planner
from train.model.blocks import DiTBlock
from train.model.build_layout import prepare
from train.model.dit import DiT
from train.model.dit_config import DiTConfig
from train.model.mixers.attention import Projections
from train.model.position import Rotation
from train.packing.batch import PackedBatch, Sample, pack
from train.packing.layout import Layout
from train.packing.segments import Segments, WindowLayout
from train.packing.shapes import WHOLE

PATCH = (1, 2, 2)
CHANNELS, TEXT_DIM, TEXT_TOKENS = 16, 384, 24
SEED = 0
PAD_PIECE = 128
"""Tokens of padding that attend to each other where attention stops at the real length: a tile of a kernel."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """What the model computes at once, and how many of its tokens are those of samples."""

    packed: PackedBatch
    real_tokens: int


def make_sample(number: int, grid: Sequence[int]) -> Sample:
    """A sample of `grid` patches along (t, h, w)."""
    generator = torch.Generator().manual_seed(number)
    t, h, w = (side * size for side, size in zip(grid, PATCH, strict=True))
    latent, noise = torch.randn(2, CHANNELS, t, h, w, generator=generator)
    text = torch.randn(TEXT_TOKENS, TEXT_DIM, generator=generator)
    timestep = float(torch.rand((), generator=generator))
    return Sample(clip_id=str(number), latent=latent, noise=noise, timestep=timestep, fps=12.0, text=text)


def batch_of(samples: Sequence[Sample], config: DiTConfig, device: torch.device) -> PackedBatch:
    return prepare(pack(samples, PATCH, TEXT_DIM), config).to(device)


def packed(grids: np.ndarray, budget: int, config: DiTConfig, device: torch.device) -> Iterator[Batch]:
    """An epoch of our planner."""
    counts = grids.prod(1)
    planner = Planner(Counts(num_tokens=counts), SEED, PlanConfig(token_budget=budget), 1 / (6 * config.width))
    for one in planner.epoch(0):
        rows = [sample.row for sample in one]
        samples = [make_sample(row, grids[row]) for row in rows]
        yield Batch(packed=batch_of(samples, config, device), real_tokens=int(counts[rows].sum()))


def padded(
    grids: np.ndarray, budget: int, config: DiTConfig, device: torch.device, *, unpads_attention: bool = False
) -> Iterator[Batch]:
    """Samples in random order, each as long as the longest of its batch, as many as the budget holds with padding.

    Where in the grid a token is changes no cost: a padded sample is one long row of patches.
    """
    counts = grids.prod(1)
    for rows in _fill(np.random.default_rng(SEED).permutation(len(counts)).tolist(), counts, budget):
        longest = int(counts[rows].max())
        batch = batch_of([make_sample(row, (1, 1, longest)) for row in rows], config, device)
        if unpads_attention:
            batch = _attention_stops(batch, counts[rows].tolist(), longest)
        yield Batch(packed=batch, real_tokens=int(counts[rows].sum()))


def _fill(order: list[int], counts: np.ndarray, budget: int) -> Iterator[list[int]]:
    rows: list[int] = []
    for row in order:
        if rows and (len(rows) + 1) * max(counts[[*rows, row]]) > budget:
            yield rows
            rows = []
        rows.append(row)
    yield rows


def _attention_stops(batch: PackedBatch, lengths: list[int], longest: int) -> PackedBatch:
    """Self-attention among the real tokens alone; padding attends in pieces to itself, which costs next to nothing."""
    assert isinstance(batch.layout, Layout)
    pieces = []
    for n in lengths:
        whole, rest = divmod(longest - n, PAD_PIECE)
        pieces += [n, *[PAD_PIECE] * whole, *([rest] if rest else [])]
    groups = {WHOLE: WindowLayout(segments=Segments.of(pieces, batch.tokens.device))}
    return replace(batch, layout=replace(batch.layout, groups=groups))


def bucketed(grids: np.ndarray, budget: int, config: DiTConfig, device: torch.device) -> Iterator[Batch]:
    """Batches of one exact shape, as many samples as the budget holds, in random order; the unfilled ones too."""
    shapes, bucket = np.unique(grids, axis=0, return_inverse=True)
    batches = []
    for number, shape in enumerate(shapes):
        rows = np.flatnonzero(bucket.reshape(-1) == number)
        size = max(1, budget // int(shape.prod()))
        batches += [rows[start : start + size] for start in range(0, len(rows), size)]
    for i in np.random.default_rng(SEED).permutation(len(batches)):
        samples = [make_sample(row, grids[row]) for row in batches[i].tolist()]
        yield Batch(packed=batch_of(samples, config, device), real_tokens=int(grids[batches[i]].prod(1).sum()))


def plain_forward(model: DiT, x: Tensor, batch: PackedBatch) -> Tensor:
    """The model on a batch of one shape as a trainer of fixed shapes writes it: (B, N, P) to (B, N, P).

    The same weights and kernels, no segments: conditions are broadcast over (B, N, D), attention is one call. For
    joint attention, rotary positions, adaLN-Zero and captions by cross-attention.
    """
    layout = batch.layout
    assert isinstance(layout, Layout) and model.rope is not None
    size, count = x.shape[:2]
    rows, _, text = model.conditioner(batch.timesteps, batch)  # (B, D), caption tokens (B · m, D)
    assert text is not None and model.final.modulation is not None
    text = text.unflatten(0, (size, -1))  # (B, m, D)
    turn = model.rope(layout.coordinates[:count], layout.sides[:count])  # of one sample
    x = model.embed(x)
    for block in model.blocks:
        x = _plain_block(block, x, rows, text, turn)
    shift, scale = model.final.modulation(rows)[:, None].chunk(2, dim=-1)
    return model.final.linear(model.final.norm(x) * (1 + scale) + shift)


def _plain_block(block: DiTBlock, x: Tensor, rows: Tensor, text: Tensor, turn: Rotation) -> Tensor:
    assert block.modulation is not None and block.cross_attention is not None
    assert block.cross_norm is not None
    chunks = block.modulation.linear(F.silu(rows))[:, None].chunk(6, dim=-1)  # 6 × (B, 1, D)
    shift, scale, gate = chunks[:3]
    h = block.norms[0](x) * (1 + scale) + shift
    x = x + gate * _plain_attention(block.self_attentions[0], h, h, turn)
    x = x + _plain_attention(block.cross_attention, block.cross_norm(x), text, None)
    shift, scale, gate = chunks[3:]
    return x + gate * block.mlp(block.mlp_norm(x) * (1 + scale) + shift)


def _plain_attention(attention: Projections, x: Tensor, context: Tensor, turn: Rotation | None) -> Tensor:
    q, k, v = attention.project(x, context, turn)  # 3 × (B, N, H, D_head)
    q, k, v = (y.transpose(1, 2) for y in (q, k, v))
    return attention.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2))
