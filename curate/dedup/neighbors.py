"""Which clips to compare: those that have frames with nearly the same hash.

Hashes that differ in few bits stand close to each other in one of several sorted orders, so no all-pairs comparison is
needed, and the cost is bounded for any number of similar frames. A piece of an order is in memory at a time.
"""

from collections.abc import Iterator
from functools import cache
from itertools import pairwise

import numpy as np

from curate.dedup.stored import StoredHashes

ORDERS = tuple((stride, first) for stride in (1, 5, 11, 13) for first in (63, 47, 31, 15))
"""Orders to sort in: the bits `first`, `first - stride`, … lead. Near hashes agree in the leading bits of one."""

NUM_NEIGHBORS = 8
"""In each order a frame is compared with this many that follow: the cost is bounded for any number of similar
frames."""

MAX_FRAME_DISTANCE = 12
"""Bits by which two frames may differ to have their clips compared; unrelated frames differ in 31 ± 4."""

MAX_PARTNERS = 8
"""Clips with the nearest frames that a clip is compared with in each order, of those that it is not joined to yet.

Where thousands of clips share a layout, their copies are nearer than the rest of them."""

PIECE = 2_000_000
"""Hashes of an order that are in memory."""


def candidates(stored: StoredHashes, *, with_mirrored: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each order, the pairs of clips with near frames, and how near these are; `with_mirrored`: of the first clip
    as it is, and the mirror image of the second.

    Pairs are (n,) a · num_clips + b, sorted; distances (n,) bits of the nearest two frames.
    """
    for stride, first in ORDERS:
        found, before = [np.empty(0, np.int64)], (np.empty(0, np.uint64), np.empty(0, np.uint32))
        for piece in _pieces(stored, stride, first, with_mirrored):
            num_before = len(before[0])
            keys, owners = (np.concatenate(both) for both in zip(before, piece, strict=True))
            near = [_near(keys, owners, max(num_before - step, 0), step, len(stored), with_mirrored)
                    for step in range(1, NUM_NEIGHBORS + 1)]  # fmt: skip
            found.append(_one_each(np.concatenate(near)))
            before = keys[-NUM_NEIGHBORS:], owners[-NUM_NEIGHBORS:]
        one_each = _one_each(np.concatenate(found)) if len(found) > 2 else found[-1]
        yield one_each // 64, (one_each % 64).astype(np.uint8)


def _near(
    keys: np.ndarray, owners: np.ndarray, begin: int, step: int, num_clips: int, with_mirrored: bool
) -> np.ndarray:
    """Pairs · 64 + distance of hashes that are `step` apart in an order, from `begin` on. The order of their bits
    changes no distance."""
    distance = np.bitwise_count(keys[begin:-step] ^ keys[begin + step :])
    rows = np.flatnonzero(distance <= MAX_FRAME_DISTANCE)
    one, other = owners[begin + rows], owners[begin + rows + step]
    i, j = (one >> 1).astype(np.int64), (other >> 1).astype(np.int64)
    if with_mirrored:
        wanted, is_left = (i != j) & ((one ^ other) & 1 == 1), one & 1 == 0
        i, j = np.where(is_left, i, j), np.where(is_left, j, i)
    else:
        wanted = i != j
        i, j = np.minimum(i, j), np.maximum(i, j)
    return ((i * num_clips + j) * 64 + distance[rows])[wanted]


def _one_each(found: np.ndarray) -> np.ndarray:
    """The nearest of each pair, sorted. `np.unique` hashes, which takes minutes for keys like these."""
    found.sort()
    return found[np.diff(found // 64, prepend=-1) > 0]


def _pieces(
    stored: StoredHashes, stride: int, first: int, with_mirrored: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All hashes that tell, with their bits in another order, sorted, and whose they are, in pieces."""
    num_pieces = -(-(stored.num_telling << with_mirrored) // PIECE)
    if num_pieces <= 1:
        blocks = [*stored.telling(PIECE, with_mirrored=with_mirrored)]
        hashes, owners = (np.concatenate(of) for of in zip(*blocks, strict=True)) if blocks else _none()
        yield _sorted(_reordered(hashes, stride, first), owners)
        return
    sample = np.sort(_reordered(stored.sample, stride, first))
    bounds = sample[np.arange(1, num_pieces) * len(sample) // num_pieces]
    paths = [stored.path(f"piece-{number}") for number in range(num_pieces)]
    kinds = np.dtype([("key", np.uint64), ("owner", np.uint32)])
    files = [open(path, "wb") for path in paths]  # noqa: SIM115
    try:
        for hashes, owners in stored.telling(PIECE, with_mirrored=with_mirrored):
            rows = np.empty(len(hashes), kinds)
            rows["key"], rows["owner"] = _reordered(hashes, stride, first), owners
            places = np.searchsorted(bounds, rows["key"], side="right").astype(np.uint16)
            order = np.argsort(places, kind="stable")
            ends = np.bincount(places, minlength=num_pieces).cumsum()
            rows = rows[order]
            for file, (begin, end) in zip(files, pairwise([0, *ends]), strict=True):
                rows[begin:end].tofile(file)
    finally:
        for file in files:
            file.close()
    for path in paths:
        rows = np.fromfile(path, kinds)
        yield _sorted(rows["key"].copy(), rows["owner"].copy())


def _none() -> tuple[np.ndarray, np.ndarray]:
    """No hashes, and no owners."""
    return np.empty(0, np.uint64), np.empty(0, np.uint32)


def _sorted(keys: np.ndarray, owners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = stable_order(keys)
    return keys[order], owners[order]


def stable_order(keys: np.ndarray) -> np.ndarray:
    """(n,) rows of uint64 keys, sorted by key, equal keys by row, as `np.argsort(keys, kind="stable")`: values are
    sorted six times as fast as rows, so the leading bits of each key are sorted with its row behind them."""
    low = np.uint64((1 << max(len(keys) - 1, 1).bit_length()) - 1)
    packed = (keys & ~low) | np.arange(len(keys), dtype=np.uint64)
    packed.sort()
    order = (packed & low).astype(np.int64)
    packed |= low
    tied = np.flatnonzero(packed[1:] == packed[:-1])  # in the leading bits
    is_tied = np.zeros(len(keys), bool)
    is_tied[tied] = is_tied[tied + 1] = True
    places = np.flatnonzero(is_tied)
    rows = order[places]
    order[places] = rows[np.lexsort((rows, keys[rows]))]
    return order


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
    is_crowded = np.bincount(pairs.ravel()) > MAX_PARTNERS
    rows = np.flatnonzero(is_crowded[pairs].any(1))  # the others are among all of their clips' few
    clips = pairs[rows].T.ravel()
    order = np.lexsort((np.tile(distances[rows], 2), clips))
    begins = np.flatnonzero(np.diff(clips[order], prepend=-1))
    _, rank = spread(np.diff(begins, append=len(order)))
    near = np.zeros(len(order), bool)
    near[order] = rank < MAX_PARTNERS
    found = np.ones(len(pairs), bool)
    found[rows] = near.reshape(2, -1).any(0)
    return found


def spread(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For sizes (2, 3): the row 0 0 1 1 1 that each item belongs to, and its place 0 1 0 1 2 there."""
    row = np.repeat(np.arange(len(sizes)), sizes)
    return row, np.arange(len(row)) - np.repeat(sizes.cumsum() - sizes, sizes)
