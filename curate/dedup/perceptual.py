"""Copies by frame hashes: clips that show nearly the same pictures at the same pace.

One clip is laid over the other at every place where enough of both lies over each other. They are copies if there the
frames differ in few bits on average; or in some more, if the pictures change at the same moments. The second rule is
needed for fast shots, of which two copies rarely have the same instants hashed; it cannot be met by another shot from
the same camera, which shares the background but not the movement.

Which clips are compared at all comes from sorting: hashes that differ in few bits stand close to each other in one of
several orders, so no all-pairs comparison is needed.
"""

from collections.abc import Iterator
from functools import cache

import numpy as np
import pyarrow as pa

from curate.dedup.config import PerceptualConfig
from curate.dedup.frame_hash import NO_HASH, TICKS_PER_SECOND, mirrored

ORDERS = tuple((stride, first) for stride in (1, 5, 11, 13) for first in (63, 47, 31, 15))
"""Orders to sort in: the bits `first`, `first - stride`, … lead. Near hashes agree in the leading bits of one."""

NUM_NEIGHBORS = 8
"""In each order a frame is compared with so many that follow: a bounded cost, however many frames are alike."""

STILL_BITS = 2
"""A frame this near to the last that was searched for is not: a still clip does not crowd out its copies."""

MAX_FRAME_DISTANCE = 12
"""Bits by which two frames may differ to have their clips compared; unlike pictures differ in 31 ± 4."""

LAG = TICKS_PER_SECOND // 2
"""Ticks between the two frames whose difference is a change."""

MIN_CHANGED_BITS = 16
"""Changes of fewer bits in all say nothing about when pictures change."""

MAX_COMPARED = 256
"""Frames of an overlap that are compared, evenly spread: the cost of a pair of films is bounded."""

CHUNK = 2_000_000


def perceptual_pairs(clips: pa.Table, config: PerceptualConfig) -> list[tuple[str, str]]:
    """Pairs of clip ids that show the same, the smaller id first.

    Args:
        clips: `clip_id, frame_hashes`, in any order.
        config: the distances.
    """
    clips = clips.select(["clip_id", "frame_hashes"]).sort_by("clip_id")
    blobs = [blob or b"" for blob in clips["frame_hashes"].to_pylist()]
    starts = np.cumsum([0, *(len(blob) // 8 for blob in blobs)])
    hashes = np.frombuffer(b"".join(blobs), "<u8")
    found = [_matches(hashes, hashes, starts, config)]
    if config.mirrored:
        found.append(_matches(hashes, mirrored(hashes), starts, config))
    pairs = np.unique(np.concatenate(found), axis=0)
    ids = clips["clip_id"].to_pylist()
    return [(ids[a], ids[b]) for a, b in pairs.tolist()]


def _matches(left: np.ndarray, right: np.ndarray, starts: np.ndarray, config: PerceptualConfig) -> np.ndarray:
    """Rows (n, 2) of clips, the smaller number first, of which one shows in `left` what the other does in `right`."""
    one, other = _candidates(left, right, starts).T
    lengths = np.diff(starts)
    longer, shorter = (pick(lengths[one], lengths[other]) for pick in (np.maximum, np.minimum))
    least = np.ceil(config.min_overlap * longer).astype(np.int64)
    one, other, least, shorter = (column[shorter >= least] for column in (one, other, least, shorter))
    # `shift` is where the other clip begins in the one's time, from the least overlap on the left to that on the
    # right.
    num_shifts = lengths[one] + lengths[other] - 2 * least + 1
    same = np.zeros(len(one), bool)
    for part in _chunks(num_shifts * np.minimum(shorter, MAX_COMPARED)):
        pair, shift = _spread(num_shifts[part])
        a, b = one[part][pair], other[part][pair]
        shift += least[part][pair] - lengths[b]
        overlap = np.minimum(lengths[a], lengths[b] + shift) - np.maximum(0, shift)
        first_a, first_b = starts[a] + np.maximum(0, shift), starts[b] + np.maximum(0, -shift)
        same[part] = np.bincount(pair, _is_same(left, right, first_a, first_b, overlap, config)) > 0
    return np.unique(np.sort(np.stack([one[same], other[same]], 1), axis=1), axis=0)


def _candidates(left: np.ndarray, right: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Rows (n, 2) of clips to compare, in `left` and in `right`; if these are the same, the smaller number first."""
    num_clips = len(starts) - 1
    rows = _telling(left, starts)
    hashes, who, is_left = left[rows], np.repeat(np.arange(num_clips), np.diff(starts))[rows], np.ones(len(rows), bool)
    if left is not right:
        hashes, who = np.concatenate([hashes, right[rows]]), np.tile(who, 2)
        is_left = np.concatenate([is_left, ~is_left])
    found = [np.empty(0, np.int64)]
    for stride, first in ORDERS:
        order = np.argsort(_reordered(hashes, stride, first), kind="stable")
        ordered, owner, side = hashes[order], who[order], is_left[order]
        pairs = []
        for step in range(1, min(NUM_NEIGHBORS, len(order) - 1) + 1):
            near = np.flatnonzero(np.bitwise_count(ordered[:-step] ^ ordered[step:]) <= MAX_FRAME_DISTANCE)
            i, j = owner[near], owner[near + step]
            if left is right:
                i, j = np.minimum(i, j), np.maximum(i, j)
                wanted = i != j
            else:
                i, j = np.where(side[near], i, j), np.where(side[near], j, i)
                wanted = (i != j) & (side[near] != side[near + step])
            pairs.append(i[wanted] * num_clips + j[wanted])
        found.append(np.unique(np.concatenate(pairs)) if pairs else found[0])
    return np.stack(np.divmod(np.unique(np.concatenate(found)), max(1, num_clips)), 1)


def _telling(hashes: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Rows of the frames that differ from the last such frame of their clip; frames without a hash tell nothing."""
    lengths = np.diff(starts)
    by_length = np.argsort(-lengths, kind="stable")
    begins, lengths = starts[:-1][by_length], lengths[by_length]
    last = np.zeros(len(lengths), np.uint64)
    found = [np.empty(0, np.int64)]
    for tick in range(int(lengths.max(initial=0))):
        rows = begins[: np.searchsorted(-lengths, -tick, side="left")] + tick  # of the clips that are longer
        now, before = hashes[rows], last[: len(rows)]
        tells = (now != NO_HASH) & ((before == NO_HASH) | (np.bitwise_count(now ^ before) > STILL_BITS))
        before[tells] = now[tells]
        found.append(rows[tells])
    return np.sort(np.concatenate(found))


def _reordered(hashes: np.ndarray, stride: int, first: int) -> np.ndarray:
    """(n,) uint64 with bit `first` of the hashes as the highest bit, then bit `first - stride`, and so on round."""
    table = _bits_moved(stride, first)
    octets = hashes.astype("<u8").view(np.uint8).reshape(-1, 8)
    turned = table[0][octets[:, 0]]
    for byte in range(1, 8):
        turned |= table[byte][octets[:, byte]]
    return turned


@cache
def _bits_moved(stride: int, first: int) -> np.ndarray:
    """(8, 256) uint64: where the bits of each value of each byte go."""
    values = np.arange(256, dtype=np.uint64)
    table = np.zeros((8, 256), np.uint64)
    for rank in range(64):
        byte, bit = divmod((first - rank * stride) % 64, 8)
        table[byte] |= ((values >> np.uint64(bit)) & np.uint64(1)) << np.uint64(63 - rank)
    return table


def _is_same(
    left: np.ndarray,
    right: np.ndarray,
    first_a: np.ndarray,
    first_b: np.ndarray,
    overlap: np.ndarray,
    config: PerceptualConfig,
) -> np.ndarray:
    """Whether frames `first_a …` and `first_b …` are the same pictures, over `overlap` of them: (n,) bool."""
    step = -(-overlap // MAX_COMPARED)
    total, compared = _sums(left, right, first_a, first_b, overlap, step)
    limit = np.where(compared < config.few_frames, config.max_distance_few, config.max_distance)
    same = (compared > 0) & (total <= limit * compared)
    moving = ~same & (compared >= config.few_frames) & (total <= config.max_distance_moving * compared)
    rows = np.flatnonzero(moving & (overlap > LAG))
    unlike, changed = _changes(left, right, first_a[rows], first_b[rows], overlap[rows] - LAG, step[rows])
    same[rows] = (changed >= 2 * MIN_CHANGED_BITS) & (unlike <= config.max_disagreement * changed)
    return np.asarray(same)


def _sums(
    left: np.ndarray, right: np.ndarray, first_a: np.ndarray, first_b: np.ndarray, length: np.ndarray, step: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Bits by which frames differ, summed over an overlap, and how many were compared; frames `step` apart."""
    pair, within = _spread(-(-length // step))
    within *= step[pair]
    a, b = left[first_a[pair] + within], right[first_b[pair] + within]
    # A flat frame says nothing beside another one, and is unlike any other.
    both_flat = (a == NO_HASH) & (b == NO_HASH)
    distance = np.where((a == NO_HASH) ^ (b == NO_HASH), 31, np.bitwise_count(a ^ b))
    return np.bincount(pair, np.where(both_flat, 0, distance), len(length)), np.bincount(pair, ~both_flat, len(length))


def _changes(
    left: np.ndarray, right: np.ndarray, first_a: np.ndarray, first_b: np.ndarray, length: np.ndarray, step: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Bits that changed within `LAG` in one of two clips only, and those that changed in either, counted for each."""
    pair, within = _spread(-(-length // step))
    within *= step[pair]
    a, b = first_a[pair] + within, first_b[pair] + within
    hashed = np.stack([left[a], left[a + LAG], right[b], right[b + LAG]])
    seen = (hashed != NO_HASH).all(0)
    change_a, change_b = hashed[0] ^ hashed[1], hashed[2] ^ hashed[3]
    unlike = np.bitwise_count(change_a ^ change_b)
    changed = np.bitwise_count(change_a).astype(np.int64) + np.bitwise_count(change_b)
    return np.bincount(pair, unlike * seen, len(length)), np.bincount(pair, changed * seen, len(length))


def _spread(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For sizes (2, 3): the row 0 0 1 1 1 that each item belongs to, and its place 0 1 0 1 2 there."""
    row = np.repeat(np.arange(len(sizes)), sizes)
    return row, np.arange(len(row)) - np.repeat(sizes.cumsum() - sizes, sizes)


def _chunks(sizes: np.ndarray) -> Iterator[slice]:
    """Slices of the rows, of about `CHUNK` in all each."""
    ends = sizes.cumsum()
    start = 0
    while start < len(sizes):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + CHUNK, side="right")))
        yield slice(start, stop)
        start = stop
