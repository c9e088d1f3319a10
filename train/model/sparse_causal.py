"""Which frames the tokens of a frame read in sparse-causal attention, which takes the weights of an image model."""

import torch
from torch import Tensor

from train.packing.segments import KeyLayout, Segments, WindowLayout


def sparse_causal_keys(queries: WindowLayout, segment_ids: Tensor, frames: Tensor, is_patch: Tensor) -> KeyLayout:
    """What the tokens of each frame read (Tune-A-Video, Wu et al. 2023, §3.3: keys and values of [z_1; z_{i-1}]).

    The first frame and the second read the first frame alone. The published code lists it twice, which leaves the
    softmax's mean as it is and costs twice as much. A frame whose tokens are all dropped is as if it were not there.
    In-context tokens are read once.

    Args:
        queries: a group of tokens for each frame.
        segment_ids: (N,) int64.
        frames: (N,) int64.
        is_patch: (N,) bool; in-context tokens come first in a group.
    """
    assert queries.order is not None, "windows of a frame have an order"
    ends = queries.segments.cu_seqlens.long()
    last = queries.order[ends[1:] - 1]  # (G,): a patch of each group
    owners = segment_ids[last]
    in_turn = (owners * (frames.max() + 1) + frames[last]).argsort()  # (G,): groups by sample and frame
    place = torch.arange(len(in_turn))
    begins = torch.cat([torch.ones(1, dtype=torch.bool), owners[in_turn].diff() != 0])
    first = torch.where(begins, place, 0).cummax(0).values  # (G,): where the sample's first group is
    later = (place - 1 > first).nonzero()[:, 0]  # the frame before is another than the first
    readers = torch.cat([in_turn, in_turn[later]])
    read = torch.cat([in_turn[first], in_turn[later - 1]])
    skipped = queries.segments.sum((~is_patch[queries.order]).long())[read]  # in-context tokens, once for each reader
    skipped[: len(in_turn)] = 0
    starts, copies = ends[read] + skipped, ends.diff()[read] - skipped
    within = torch.arange(int(copies.sum())) - (copies.cumsum(0) - copies).repeat_interleave(copies)
    tokens = queries.order[starts.repeat_interleave(copies) + within]
    groups = readers.repeat_interleave(copies)
    return KeyLayout(segments=Segments.of(groups.bincount().tolist()), order=tokens[groups.argsort(stable=True)])
