"""Which clips to compare: those that have frames with nearly the same hash.

Hashes that differ in few bits stand close to each other in one of several sorted orders, so no all-pairs comparison is
needed, and the cost is bounded for any number of similar frames.
"""

from collections.abc import Iterator
from functools import cache

import numpy as np

from curate.dedup.frame_hash import NO_HASH

ORDERS = tuple((stride, first) for stride in (1, 5, 11, 13) for first in (63, 47, 31, 15))
"""Orders to sort in: the bits `first`, `first - stride`, … lead. Near hashes agree in the leading bits of one."""

NUM_NEIGHBORS = 8
"""In each order a frame is compared with this many that follow: the cost is bounded for any number of similar
frames."""

STILL_BITS = 2
"""A frame this near to the last that was searched for is not: a still clip does not crowd out its copies."""

MAX_FRAME_DISTANCE = 12
"""Bits by which two frames may differ to have their clips compared; unrelated frames differ in 31 ± 4."""

MAX_PARTNERS = 8
"""Clips with the nearest frames that a clip is compared with in each order, of those that it is not joined to yet.

Where thousands of clips share a layout, their copies are nearer than the rest of them."""


def candidates(left: np.ndarray, right: np.ndarray, starts: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each order, the pairs of clips with near frames, a in `left` and b in `right`, and how near these are.

    Pairs are (n,) a · num_clips + b, sorted; distances (n,) bits of the nearest two frames.
    """
    num_clips = len(starts) - 1
    rows = _telling(left, starts)
    hashes, who, is_left = left[rows], np.repeat(np.arange(num_clips), np.diff(starts))[rows], np.ones(len(rows), bool)
    if left is not right:
        hashes, who = np.concatenate([hashes, right[rows]]), np.tile(who, 2)
        is_left = np.concatenate([is_left, ~is_left])
    for stride, first in ORDERS:
        order = stable_order(_reordered(hashes, stride, first))
        ordered, owner, side = hashes[order], who[order], is_left[order]
        found = [np.empty(0, np.int64)]
        for step in range(1, min(NUM_NEIGHBORS, len(order) - 1) + 1):
            distance = np.bitwise_count(ordered[:-step] ^ ordered[step:])
            near = np.flatnonzero(distance <= MAX_FRAME_DISTANCE)
            i, j = owner[near], owner[near + step]
            wanted = i != j
            if left is right:
                i, j = np.minimum(i, j), np.maximum(i, j)
            else:
                wanted &= side[near] != side[near + step]
                i, j = np.where(side[near], i, j), np.where(side[near], j, i)
            found.append(((i * num_clips + j) * 64 + distance[near])[wanted])
        both = np.sort(np.concatenate(found))  # np.unique hashes, which takes minutes for keys like these
        one_each = both[np.diff(both // 64, prepend=-1) > 0]
        yield one_each // 64, one_each % 64


def stable_order(keys: np.ndarray) -> np.ndarray:
    """(n,) rows of uint64 keys, sorted by key, equal keys by row, as `np.argsort(keys, kind="stable")`: values are
    sorted six times as fast as rows, so the leading bits of each key are sorted with its row behind them."""
    low = np.uint64((1 << max(len(keys) - 1, 1).bit_length()) - 1)
    packed = (keys & ~low) | np.arange(len(keys), dtype=np.uint64)
    packed.sort()
    order = (packed & low).astype(np.int64)
    packed |= low
    tied = np.flatnonzero(packed[1:] == packed[:-1])  # in the leading bits
    places = np.union1d(tied, tied + 1)
    rows = order[places]
    order[places] = rows[np.lexsort((rows, keys[rows]))]
    return order


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


def nearest(pairs: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """(n,) bool of pairs (n, 2): among the `MAX_PARTNERS` nearest of one of the two clips."""
    clips = pairs.T.ravel()
    order = np.lexsort((np.tile(distances, 2), clips))
    begins = np.flatnonzero(np.diff(clips[order], prepend=-1))
    _, rank = spread(np.diff(begins, append=len(order)))
    near = np.zeros(len(order), bool)
    near[order] = rank < MAX_PARTNERS
    return np.asarray(near.reshape(2, -1).any(0))


def spread(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For sizes (2, 3): the row 0 0 1 1 1 that each item belongs to, and its place 0 1 0 1 2 there."""
    row = np.repeat(np.arange(len(sizes)), sizes)
    return row, np.arange(len(row)) - np.repeat(sizes.cumsum() - sizes, sizes)
