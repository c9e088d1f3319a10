"""A pack as a U-Net sees it: at each level of resolution all samples in one row, frame by frame, channels last.

Samples of equal height and width are neighbours, so that their frames are one batch of pictures. A side is halved and
rounded up (7, 4, 2, 1). The way up copies a coarse patch to the patches that it stands for: four, or fewer at the end
of an odd side.

Letters: L patches of the pack, N patches of a level, N' of the next coarser one, S segments, R condition vectors.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from train.model.build_layout import window_layout
from train.model.unet.boxes import Boxes
from train.model.unet.config import UNetConfig
from train.model.unet.taps import neighbors
from train.packing.batch import PackedBatch
from train.packing.patches import grid_positions
from train.packing.segments import Segments, WindowLayout, map_tensors
from train.packing.shapes import TEMPORAL, Patch

SMALL = 1
"""Pictures of a level are small where the patches of one size are, on average, fewer than this many times its
channels: there a convolution per size was slower than one product over all of them, on a CPU."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """One resolution."""

    segments: Segments  # over N: samples, in the pyramid's order
    spatial: WindowLayout  # of the frames, one after the other
    temporal: WindowLayout  # of the places of frames, along time
    pictures: Boxes  # frames: rows × columns
    taps: Tensor | None  # (N, 9): their neighbors, where pictures are small and unlike; None: they are not
    films: Boxes  # samples: frames × patches of a frame
    finer: Boxes | None  # frames of the level before; None: this is the first
    is_video: Tensor  # (N, 1) bool
    frames: Tensor  # (N,) float32: number of the frame
    condition_ids: Tensor  # (N,) int64: the condition vector of each patch
    parents: Tensor | None  # (N,) int64: the patch of the next level that stands for it; None: this is the last
    children: Tensor | None  # (N', 4) int64: the patches that each one of the next level stands for; N: there is none


@dataclass(frozen=True, kw_only=True, slots=True)
class Pyramid:
    """What a U-Net works out ahead of a pack."""

    rows: WindowLayout  # patches in the order of the first level
    text: WindowLayout  # caption tokens, those of a segment where it is in `rows`
    levels: dict[int, Level]


def prepare(batch: PackedBatch, config: UNetConfig) -> PackedBatch:
    """The pack with its pyramid, worked out ahead: call it where the pack is loaded, before it moves to a GPU."""
    return replace(batch, layout=build_pyramid(batch, config.widths))


def pyramid_of(batch: PackedBatch, config: UNetConfig) -> Pyramid:
    """What `prepare` worked out, or, of a pack that it has not seen, works out now."""
    return batch.layout if isinstance(batch.layout, Pyramid) else build_pyramid(batch, config.widths)


def build_pyramid(batch: PackedBatch, widths: Sequence[int]) -> Pyramid:
    """The pyramid of a pack, on the pack's device.

    Args:
        batch: the pack.
        widths: channels of each level.

    Raises:
        ValueError: tokens were dropped: convolutions need all neighbours.
    """
    _check_whole(batch)
    cpu = map_tensors(replace(batch, layout=None), Tensor.cpu)
    grids = cpu.grid_sizes
    order = sorted(range(len(grids)), key=lambda i: (*grids[i][1:], grids[i][0]))
    rows = _regrouped(cpu.segments, order)
    given = rows.apply(~cpu.loss_mask)  # (N,)
    vectors = _condition_vectors(cpu)[:, order]  # (2, S)
    levels, finer = dict[int, Level](), None
    sizes = [grids[i] for i in order]
    for number, width in enumerate(widths):
        coarser = [(t, -(-h // 2), -(-w // 2)) for t, h, w in sizes]
        parents, children = _family(sizes, coarser) if number < len(widths) - 1 else (None, None)
        condition_ids = torch.where(given, *_of_rows(vectors, sizes))  # (N,)
        levels[number] = _level(sizes, width, finer, condition_ids, parents, children)
        finer, sizes = levels[number].pictures, coarser
        if children is not None:  # a coarse patch is given where all that it stands for are
            given = torch.cat([given, given.new_ones(1)])[children].all(1)  # (N',)
    pyramid = Pyramid(rows=rows, text=_regrouped(cpu.text_segments, order), levels=levels)
    return map_tensors(pyramid, lambda x: x.to(batch.tokens.device, non_blocking=True))


def _check_whole(batch: PackedBatch) -> None:
    for clip_id, (t, h, w), count in zip(batch.clip_ids, batch.grid_sizes, batch.segments.lengths, strict=True):
        if count < t * h * w:
            raise ValueError(
                f"clip {clip_id}: got {count} of {t * h * w} tokens, and the convolutions of a U-Net need all; set "
                "train.data.epoch.drop.distribution=none, or train.model.kind=dit"
            )


def _level(
    sizes: Sequence[Patch],
    width: int,
    finer: Boxes | None,
    condition_ids: Tensor,
    parents: Tensor | None,
    children: Tensor | None,
) -> Level:
    positions = torch.cat([grid_positions(size) for size in sizes])  # (N, 3)
    segments = Segments.of([t * h * w for t, h, w in sizes])
    is_image = segments.gather(torch.tensor([t == 1 for t, _, _ in sizes]))
    everywhere = torch.ones(segments.num_tokens, dtype=torch.bool)
    pictures = [(sum(t for t, _, _ in run), h, w) for (h, w), run in groupby(sizes, lambda size: size[1:])]
    films = [(len(list(run)), t, h * w) for (t, h, w), run in groupby(sizes)]
    return Level(
        segments=segments,
        spatial=WindowLayout(segments=Segments.of([h * w for t, h, w in sizes for _ in range(t)])),
        temporal=window_layout(TEMPORAL, segments, positions, everywhere, is_image),
        pictures=Boxes(pictures),
        taps=neighbors(sizes) if segments.num_tokens < SMALL * width * len(pictures) else None,
        films=Boxes(films),
        finer=finer,
        is_video=~is_image[:, None],
        frames=positions[:, 0].float(),
        condition_ids=condition_ids,
        parents=parents,
        children=children,
    )


def _regrouped(segments: Segments, order: Sequence[int]) -> WindowLayout:
    """The tokens of segments in another order of these."""
    parts = torch.arange(segments.num_tokens).split(segments.lengths)
    return WindowLayout.of(torch.cat([parts[i] for i in order]), [segments.lengths[i] for i in order])


def _condition_vectors(batch: PackedBatch) -> Tensor:
    """(2, S) int64: the condition vector of given patches (0 where a segment has none), and that of the others."""
    own = torch.arange(batch.segments.num_segments)
    segments, vectors = batch.condition_segments[len(own) :], torch.arange(len(own), len(batch.condition_segments))
    return torch.stack([torch.zeros_like(own).index_copy(0, segments, vectors), own])


def _of_rows(vectors: Tensor, sizes: Sequence[Patch]) -> tuple[Tensor, Tensor]:
    """(2, S) to two of (N,)."""
    given, own = vectors.repeat_interleave(torch.tensor([t * h * w for t, h, w in sizes]), dim=1)
    return given, own


def _family(sizes: Sequence[Patch], coarser: Sequence[Patch]) -> tuple[Tensor, Tensor]:
    """`parents` and `children` of a level: see `Level`."""
    parents, slots, start = list[Tensor](), list[Tensor](), 0
    for size, (t, h, w) in zip(sizes, coarser, strict=True):
        frame, row, column = grid_positions(size).unbind(1)  # 3 × (n,)
        parents.append(start + (frame * h + row // 2) * w + column // 2)
        slots.append(row % 2 * 2 + column % 2)
        start += t * h * w
    parent = torch.cat(parents)
    children = torch.full((start, 4), len(parent))
    children[parent, torch.cat(slots)] = torch.arange(len(parent))
    return parent, children


class _Copied(torch.autograd.Function):
    """Each coarse patch to its children. The backward adds four gathered rows, in an order that never changes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, parents: Tensor, children: Tensor) -> Tensor:
        ctx.save_for_backward(children)
        return x.index_select(0, parents)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (children,) = ctx.saved_tensors
        rows = torch.cat([grad, grad.new_zeros(1, grad.shape[1])])  # (N + 1, C)
        return sum(rows.index_select(0, slot) for slot in children.unbind(1)), None, None


def copied_to_children(x: Tensor, level: Level) -> Tensor:
    """(N', C) of the next coarser level to (N, C) of `level`."""
    return _Copied.apply(x, level.parents, level.children)
