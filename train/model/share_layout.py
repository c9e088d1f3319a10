"""A rank's part of a pack that a group of ranks shares (context parallelism), worked out where the pack is loaded.

The ranks divide the sequence that the blocks see, in-context tokens too. What is per token is of a rank's own tokens;
what is per sample, every rank has. Self-attention gets back to whole samples by an exchange (`train.model.exchange`)
or by a ring (`train.model.ring_attention`).
"""

from dataclasses import replace

import torch
from torch import Tensor

from train.model.build_layout import layout_of
from train.model.dit_config import DiTConfig
from train.packing.batch import PackedBatch, Pictures
from train.packing.layout import JointKeys, Layout
from train.packing.segments import Piece, Ring, Segments, WindowLayout
from train.packing.share import ContextGroup, Share


def shared(batch: PackedBatch, group: ContextGroup, config: DiTConfig) -> PackedBatch:
    """This rank's part of a pack, on the host.

    Args:
        batch: the whole pack.
        group: the ranks that share it.
        config: of the model.
    """
    layout = layout_of(batch, config)
    share = Share(layout.segments.num_tokens, group)
    own = share.own
    patches = torch.arange(batch.segments.num_tokens) if layout.patches is None else layout.patches
    first, last = torch.searchsorted(patches, torch.tensor([own.start, own.stop])).tolist()
    mine = slice(first, last)  # of the L patches
    return replace(
        batch,
        segments=replace(batch.segments, segment_ids=batch.segments.segment_ids[mine]),
        tokens=batch.tokens[mine].clone(),  # not a view, with which the whole pack would move to the device
        noise=batch.noise[mine].clone(),
        positions=batch.positions[mine],
        condition_ids=batch.condition_ids[mine],
        loss_mask=batch.loss_mask[mine],
        conditioning={name: tokens[mine].clone() for name, tokens in batch.conditioning.items()},
        lone_frames=None if batch.lone_frames is None else batch.lone_frames[mine],
        features=None if batch.features is None else batch.features[mine].clone(),
        group=group,
        layout=replace(
            _shared_layout(layout, share, patches, mine, config),
            own_pictures=None if batch.pictures is None else _own_pictures(batch.pictures, layout, own),
        ),
    )


def _shared_layout(layout: Layout, share: Share, patches: Tensor, mine: slice, config: DiTConfig) -> Layout:
    own = share.own
    num_context = layout.segments.num_tokens - len(patches)
    order = None if layout.order is None else layout.order[own]
    by_ring = config.attends_by_ring(share.group.size)
    groups = {
        window: replace(groups, share=share, ring=_ring(groups, share) if by_ring else None)
        for window, groups in layout.groups.items()
    }
    parts = _own_parts(layout, own)
    return replace(
        layout,
        condition_ids=layout.condition_ids[own],
        # In-context tokens come first in what is merged, and of the patches this rank embeds its own alone.
        order=None if order is None else torch.where(order < num_context, order, order - mine.start),
        patches=None if layout.patches is None else patches[mine] - own.start,
        coordinates=layout.coordinates[own],
        sides=layout.sides[own],
        groups=groups,
        keys={w: JointKeys(queries=groups[w], order=k.order, segments=k.segments) for w, k in layout.keys.items()},
        own_segments=parts[0],
        own_context=parts[1],
        context_order=parts[2],
    )


def _own_parts(layout: Layout, own: slice) -> tuple[Segments, Segments | None, Tensor | None]:
    """Segments of this rank's tokens, those of the context that their cross-attention reads, and the order of that."""
    ids = layout.segments.segment_ids[own]
    segments = Segments.of(ids.unique_consecutive(return_counts=True)[1].tolist()) if len(ids) else Segments.empty()
    if layout.context_segments is None or layout.keys:  # windows that are read together with it are of all tokens
        return segments, layout.context_segments, layout.context_order
    first, last = _own_samples(layout, own)
    rows = slice(*layout.context_segments.cu_seqlens[[first, last]].tolist())
    order = layout.context_order
    rows_read = torch.arange(rows.start, rows.stop) if order is None else order[rows]
    return segments, Segments.of(layout.context_segments.lengths[first:last]), rows_read


def _own_samples(layout: Layout, own: slice) -> tuple[int, int]:
    """The first and the end of the samples that a rank has tokens of; of none it has the first."""
    ids = layout.segments.segment_ids[own]
    return (int(ids[0]), int(ids[-1]) + 1) if len(ids) else (0, 1)


def _own_pictures(pictures: Pictures, layout: Layout, own: slice) -> Pictures:
    first, last = _own_samples(layout, own)
    rows = slice(*pictures.segments.cu_seqlens[[first, last]].tolist())
    return Pictures(
        states=pictures.states[rows].clone(),
        segments=Segments.of(pictures.segments.lengths[first:last]),
        given=pictures.given[first:last],
    )


def _ring(whole: WindowLayout, share: Share) -> Ring:
    """What the queries of this rank see of the tokens of each rank."""
    tokens = torch.arange(whole.segments.num_tokens) if whole.order is None else whole.order  # (G,): of each place
    groups, num_groups, own = whole.segments.segment_ids, whole.segments.num_segments, share.group.rank
    read, readers = (tokens, groups) if whole.keys is None else (whole.keys.order, whole.keys.segments.segment_ids)

    def of_rank(rank: int, tokens: Tensor, groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of tokens (n,) of groups (n,) those that a rank has, their groups, and how many each group has."""
        mine = torch.bucketize(tokens, share.ends[1:], right=True) == rank
        return tokens[mine] - share.ends[rank], groups[mine], groups[mine].bincount(minlength=num_groups)

    queries, *asks = of_rank(own, tokens, groups)
    pieces = {}
    for rank in range(share.group.size):
        keys, *asked = of_rank(rank, read, readers)
        pieces[rank] = _piece((asks[0], asks[1]), (asked[0], asked[1]), keys)
    return Ring(queries=_own_queries(whole, queries, asks[1]), pieces=pieces)


def _own_queries(whole: WindowLayout, tokens: Tensor, counts: Tensor) -> WindowLayout:
    lengths = counts[counts > 0].tolist()
    if not lengths:
        return WindowLayout(segments=Segments.empty())
    if whole.order is None:
        return WindowLayout(segments=Segments.of(lengths))
    return WindowLayout.of(tokens, lengths, averages=whole.weights is not None)


def _piece(asks: tuple[Tensor, Tensor], asked: tuple[Tensor, Tensor], tokens: Tensor) -> Piece:
    """
    Args:
        asks: group of each query, and queries of each group.
        asked: the same of the keys.
        tokens: of the keys, among those of their rank.
    """
    both = (asks[1] > 0) & (asked[1] > 0)  # (groups,)
    if not both.any():
        none = torch.zeros(0, dtype=torch.int64)
        return Piece(queries=none, keys=none, query_segments=Segments.empty(), key_segments=Segments.empty())
    return Piece(
        queries=both[asks[0]].nonzero()[:, 0],
        keys=tokens[both[asked[0]]],
        query_segments=Segments.of(asks[1][both].tolist()),
        key_segments=Segments.of(asked[1][both].tolist()),
    )
