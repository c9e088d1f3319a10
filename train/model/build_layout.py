"""The sequence that a transformer sees of a pack, and its windows, worked out from where the tokens are.

A window is a reordering of the pack's tokens, made once per pack, so that one attention serves every pattern and
dropped tokens are not there.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from train.model.dit_config import DiTConfig
from train.model.position import frame_rates, lagging, scale_frames
from train.model.sparse_causal import sparse_causal_keys
from train.packing.batch import PackedBatch
from train.packing.layout import JointKeys, Layout, TimeLayout
from train.packing.segments import Segments, WindowLayout, map_tensors
from train.packing.shapes import STORED, TEMPORAL, WHOLE, Patch, Window


def reaches_all(config: DiTConfig, grid: Patch) -> bool:
    """What a token of a sample says reaches every other through the blocks: the windows do not cut it into islands.

    Boxes are products over the axes, and so is what they reach together: an axis is followed alone.
    """
    windows = [w for block in range(config.depth) for heads in config.windows(block) for w in heads]
    windows = [w for w in windows if grid[0] > 1 or not w.images_alone]
    windows += [TEMPORAL] * ("attention" in config.temporal_layers)
    num_convolutions = config.depth * ("convolution" in config.temporal_layers)
    for axis, side in enumerate(grid):
        reached = torch.eye(side)  # (side, side): from where to where
        for window in windows:
            reached = (reached @ _share_box(window, axis, side)).clamp(max=1)
        if axis == 0 and num_convolutions:
            near = (torch.arange(side)[:, None] - torch.arange(side)).abs() <= num_convolutions
            reached = (reached @ near.float()).clamp(max=1)
        if not reached.all():
            return False
    return True


def _share_box(window: Window, axis: int, side: int) -> Tensor:
    if window.sparse_causal and axis == 0:  # a token keeps what it knows; frames tell the next, the first tells all
        told = torch.eye(side) + torch.eye(side).roll(1, dims=1).triu()
        return told.index_fill(0, torch.tensor([0]), 1).clamp(max=1)
    size = window.size[axis]
    if size is None:
        return torch.ones(side, side)
    boxes = _box(torch.arange(side), size, window)
    return (boxes[:, None] == boxes).float()


def _box(positions: Tensor, size: int, window: Window) -> Tensor:
    """Number of the box along an axis."""
    return (positions + (size // 2 if window.shifted else 0)) // size


def prepare(batch: PackedBatch, config: DiTConfig) -> PackedBatch:
    """The pack with its layout, worked out ahead: call it where the pack is loaded, before it moves to a GPU."""
    return replace(batch, layout=build_layout(batch, config))


def layout_of(batch: PackedBatch, config: DiTConfig) -> Layout:
    """What `prepare` worked out, or, of a pack that it has not seen, works out now."""
    return batch.layout if isinstance(batch.layout, Layout) else build_layout(batch, config)


def build_layout(batch: PackedBatch, config: DiTConfig) -> Layout:
    """The layout of a pack, on the pack's device.

    Raises:
        ValueError: a sample is larger than the learned position tables.
    """
    cpu = map_tensors(replace(batch, layout=None), Tensor.cpu)
    check_grids(cpu.clip_ids, torch.tensor(cpu.grid_sizes), cpu.latent_fps, config)
    tokens = torch.arange(cpu.segments.num_segments).repeat_interleave(config.num_condition_tokens)  # (S V,)
    text = cpu.text_segments.segment_ids  # (M,)
    context = _sources(tokens if config.conditions_in_context else None, text if config.text == "in_context" else None)
    read = _sources(
        tokens if config.conditions_in_cross_attention else None,
        text if config.text == "cross_attention" else None,
        _padding(cpu, config.text_padding),
    )
    segments, order = _interleave([*context, cpu.segments.segment_ids])
    num_context = segments.num_tokens - cpu.segments.num_tokens
    patches = order.argsort()[num_context:]  # (L,)
    context_segments, context_order = _interleave(read) if read else (None, None)
    positions = cpu.positions.new_zeros(segments.num_tokens, 3).index_copy(0, patches, cpu.positions)  # (N, 3)
    is_patch = torch.zeros(segments.num_tokens, dtype=torch.bool).index_fill(0, patches, True)
    grids = torch.tensor(cpu.grid_sizes)  # (S, 3)
    is_image = segments.gather(grids[:, 0] == 1)
    rates = segments.gather(_rates(cpu.latent_fps, config))  # (N,)
    windows = {w for block in range(config.depth) for heads in config.windows(block) for w in heads}
    groups = {window: window_layout(window, segments, positions, is_patch, is_image) for window in windows}
    joint = {config.windows(block)[0][0] for block in range(config.depth) if config.reads_jointly(block)}
    coordinates, time = scale_frames(lagging(positions.float(), config.frame_lag), rates), None  # (N, 3)
    if config.temporal != "none":
        time = time_layout(segments, positions, is_patch, is_image, coordinates[:, 0].clone())
    if config.frames_apart:
        coordinates[:, 0] = 0
    layout = Layout(
        segments=segments,
        condition_ids=segments.segment_ids.index_copy(0, patches, cpu.condition_ids),
        order=order if num_context else None,
        patches=patches if num_context else None,
        context_segments=context_segments,
        context_order=context_order if len(read) > 1 else None,
        coordinates=coordinates,
        sides=scale_frames(segments.gather(grids.float()), rates),
        groups=groups,
        neighbors=neighbors_of(segments, positions, is_patch, grids) if config.mlp == "gated_convolution" else None,
        keys={} if context_segments is None else {w: joint_keys(groups[w], segments, context_segments) for w in joint},
        time=time,
    )
    return map_tensors(layout, lambda x: x.to(batch.tokens.device, non_blocking=True))


def window_layout(
    window: Window, segments: Segments, positions: Tensor, is_patch: Tensor, is_image: Tensor
) -> WindowLayout:
    """The tokens in the order of a window's groups, which are sorted by length: equal ones share a batch.

    Args:
        window: the boxes.
        segments: over N tokens; the in-context tokens of a segment come first.
        positions: (N, 3) int64.
        is_patch: (N,) bool; the other tokens are in-context ones and join every group of their segment.
        is_image: (N,) bool; tokens of samples of one frame.
    """
    if window == WHOLE:
        return WindowLayout(segments=segments)
    alone = is_image & window.images_alone
    group_ids, group_segments, joined = _boxes(window, segments.segment_ids, positions, is_patch, alone)
    tokens = is_patch.nonzero()[:, 0]
    scan = _scan(window, positions[tokens])
    group_ids, tokens = group_ids[scan], tokens[scan]
    has_context = len(tokens) < len(is_patch)
    if has_context:
        context_ids, context = _context_members(group_segments, joined, segments, is_patch)
        group_ids, tokens = torch.cat([context_ids, group_ids]), torch.cat([context, tokens])
    lengths = group_ids.bincount()
    by_length = lengths.argsort(stable=True)
    order = tokens[by_length.argsort()[group_ids].argsort(stable=True)]
    layout = WindowLayout.of(order, lengths[by_length].tolist(), averages=has_context)
    if not window.sparse_causal:
        return layout
    return replace(layout, keys=sparse_causal_keys(layout, segments.segment_ids, positions[:, 0], is_patch))


def time_layout(
    segments: Segments, positions: Tensor, is_patch: Tensor, is_image: Tensor, frames: Tensor
) -> TimeLayout:
    """What layers along time see of N tokens.

    Args:
        segments, positions, is_patch, is_image: as for `window_layout`. A patch that was dropped is no neighbor.
        frames: (N,) numbers of the frames in the configured unit.
    """
    _, num_rows, num_columns = (positions.max(0).values + 1).tolist()
    place = (segments.segment_ids * num_rows + positions[:, 1]) * num_columns + positions[:, 2]  # (N,)
    key = place * (int(positions[:, 0].max()) + 2) + positions[:, 0]  # one number lies between two places
    patches = is_patch.nonzero()[:, 0]  # (L,)
    known, order = key[patches].sort()
    wanted = key[patches][:, None] + torch.arange(-1, 2)  # (L, 3)
    at = torch.searchsorted(known, wanted).clamp(max=len(known) - 1)
    found = torch.where(known[at] == wanted, patches[order[at]], segments.num_tokens)
    return TimeLayout(
        window=window_layout(TEMPORAL, segments, positions, is_patch, is_image),
        neighbors=torch.full((segments.num_tokens, 3), segments.num_tokens).index_copy(0, patches, found),
        in_video=(is_patch & ~is_image)[:, None],
        frames=frames,
    )


def joint_keys(queries: WindowLayout, segments: Segments, context_segments: Segments) -> JointKeys:
    """What the tokens of each group read together with the context of their segment.

    Args:
        queries: the groups of N tokens.
        segments: over N.
        context_segments: over M'.
    """
    tokens = torch.arange(segments.num_tokens) if queries.order is None else queries.order
    owners = segments.segment_ids[tokens[queries.segments.cu_seqlens[:-1].long()]]  # (groups,): their segments
    copies = context_segments.cu_seqlens.diff().long()[owners]
    starts = context_segments.cu_seqlens[:-1].long()[owners] - (copies.cumsum(0) - copies)
    context = starts.repeat_interleave(copies) + torch.arange(int(copies.sum()))
    both, order = _interleave([queries.segments.segment_ids, torch.arange(len(owners)).repeat_interleave(copies)])
    return JointKeys(queries=queries, order=torch.cat([tokens, segments.num_tokens + context])[order], segments=both)


def neighbors_of(segments: Segments, positions: Tensor, is_patch: Tensor, grids: Tensor) -> Tensor:
    """(N, 9) int64: the patches around each within its frame, row by row; N: there is none, or it was dropped.

    Args:
        segments: over N tokens.
        positions: (N, 3) int64.
        is_patch: (N,) bool; the other tokens have themselves alone.
        grids: (S, 3) patches along (t, h, w).
    """
    patches, num_tokens = is_patch.nonzero()[:, 0], segments.num_tokens
    own = segments.segment_ids[patches]
    rows, columns = (grids[own, 1] + 2, grids[own, 2] + 2)  # with a border, so that no neighbor is elsewhere
    sizes = grids[:, 0] * (grids[:, 1] + 2) * (grids[:, 2] + 2)
    t, h, w = positions[patches].unbind(1)
    place = (sizes.cumsum(0) - sizes)[own] + (t * rows + h + 1) * columns + w + 1
    tokens = torch.full((int(sizes.sum()),), num_tokens).index_copy(0, place, patches)
    around = torch.stack([tokens[place + row * columns + column] for row in (-1, 0, 1) for column in (-1, 0, 1)], 1)
    alone = torch.full((num_tokens, 9), num_tokens)
    alone[:, 4] = torch.arange(num_tokens)
    return alone.index_copy(0, patches, around)


def _boxes(
    window: Window, segment_ids: Tensor, positions: Tensor, is_patch: Tensor, alone: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Group of each patch, (L,); of each group its segment, (G,), and whether in-context tokens join it, (G,)."""
    keys = [segment_ids, torch.where(alone, torch.arange(len(alone)), 0)]
    for axis, size in enumerate(window.size):
        if size is not None:
            keys.append(_box(positions[:, axis], size, window))
    key = torch.zeros_like(segment_ids)
    for part in keys:
        key = key * (part.max() + 1) + part
    values, group_ids = key[is_patch].unique(return_inverse=True)
    segment, joins = (
        torch.zeros(len(values), dtype=x.dtype).index_copy(0, group_ids, x[is_patch]) for x in (segment_ids, ~alone)
    )
    return group_ids, segment, joins


def _scan(window: Window, positions: Tensor) -> Tensor:
    """(L,) places of the patches of `positions`, (L, 3), in the order that the window reads them in."""
    key = torch.zeros(len(positions), dtype=torch.int64)
    for axis in map(STORED.index, window.order):
        key = key * (positions[:, axis].max() + 1) + positions[:, axis]
    return key.argsort(stable=True, descending=window.backward)


def _context_members(
    group_segments: Tensor, joined: Tensor, segments: Segments, is_patch: Tensor
) -> tuple[Tensor, Tensor]:
    """Group and token of the in-context tokens, which are in each group of their segment, before its patches.

    The in-context tokens of a segment whose groups they do not join are a group of their own.
    """
    num_context = segments.sum((~is_patch).long())  # (S,)
    left_out = torch.ones(segments.num_segments, dtype=torch.bool).index_fill(0, group_segments[joined], False)
    hosts = torch.cat([joined.nonzero()[:, 0], len(joined) + torch.arange(int(left_out.sum()))])  # group ids
    host_segments = torch.cat([group_segments[joined], left_out.nonzero()[:, 0]])
    copies = num_context[host_segments]
    starts = segments.cu_seqlens[:-1].long()[host_segments] - (copies.cumsum(0) - copies)
    return hosts.repeat_interleave(copies), starts.repeat_interleave(copies) + torch.arange(int(copies.sum()))


def _sources(*segment_ids: Tensor | None) -> list[Tensor]:
    return [ids for ids in segment_ids if ids is not None]


def _padding(batch: PackedBatch, to: int | None) -> Tensor | None:
    """Segments of the tokens that fill its caption to a number of them; None: it is not filled.

    Raises:
        ValueError: names a clip whose caption has more.
    """
    if to is None:
        return None
    missing = [to - length for length in batch.text_segments.lengths]
    if min(missing) < 0:
        longest = missing.index(min(missing))
        raise ValueError(
            f"clip {batch.clip_ids[longest]}: got a caption of {batch.text_segments.lengths[longest]} tokens, and "
            f"train.model.text_padding is {to}; encode with text.max_tokens={to}, or raise or unset text_padding"
        )
    return torch.arange(len(missing)).repeat_interleave(torch.tensor(missing))


def _interleave(segment_ids: list[Tensor]) -> tuple[Segments, Tensor]:
    """Segments that hold the tokens of several sources, in their order, and where each token comes from."""
    joined = torch.cat(segment_ids)
    return Segments.of(joined.bincount().tolist()), joined.argsort(stable=True)


def _rates(latent_fps: Tensor, config: DiTConfig) -> Tensor:
    """Units of the configuration in a step of a patch along time: (S,)."""
    return frame_rates(latent_fps / config.patch[0], config.reference_fps)


def check_grids(clip_ids: Sequence[str], grids: Tensor, latent_fps: Tensor, config: DiTConfig) -> None:
    """See that the learned positions reach as far as the samples: grids (S, 3), frames of latents per second (S,).

    Raises:
        ValueError: names one that they do not reach.
    """
    if config.position != "absolute":
        return
    rates = _rates(latent_fps, config)
    frames = 1 + ((grids[:, 0] - 1) * rates).ceil().long() * (not config.frames_apart)
    sides = torch.cat([frames[:, None], grids[:, 1:]], dim=1)  # (S, 3)
    beyond = (sides > torch.tensor(config.max_grid)).any(1).nonzero()[:, 0].tolist()
    if beyond:
        raise ValueError(
            f"clip {clip_ids[beyond[0]]}: got a grid of {tuple(sides[beyond[0]].tolist())} patches, and the learned "
            f"positions end at {config.max_grid}; raise train.model.max_grid, or set train.model.position to rope, "
            "sincos or fractional"
        )
