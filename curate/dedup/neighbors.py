"""Which clips to compare: those that have frames with nearly the same hash.

Hashes that differ in few bits stand close to each other in one of several sorted orders, so no all-pairs comparison is
needed, and the cost is bounded for any number of similar frames. A piece of an order is in memory at a time.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache, partial
from itertools import pairwise, starmap

import numpy as np

from curate.dedup.stored import OWNER, StoredHashes

ORDERS = dict.fromkeys((1, 5, 11, 13), (63, 47, 31, 15))
"""Orders to sort in: the bits `first`, `first - stride`, … lead. Near hashes agree in the leading bits of one."""

NUM_NEIGHBORS = 8
"""In each order a frame is compared with this many that follow: the cost is bounded for any number of similar
frames."""

MAX_FRAME_DISTANCE = 12
"""Bits by which two frames may differ to have their clips compared; unrelated frames differ in 31 ± 4."""

MAX_PARTNERS = 8
"""Clips with the nearest frames that a clip is compared with in each order, of those that it is not joined to yet.

Where thousands of clips share a layout, their copies are nearer than the rest of them."""

PIECE = 1_000_000
"""Hashes of an order that are in memory."""
BLOCK = 2**16
"""Hashes of a piece that are in the processor's cache."""
LEADING = np.uint64(48)
"""Bits behind those by which an order is cut into pieces."""


def candidates(stored: StoredHashes, *, with_mirrored: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each order, the pairs of clips with near frames, and how near these are; `with_mirrored`: of the first clip
    as it is, and the mirror image of the second.

    Pairs are (n,) a · num_clips + b, sorted; distances (n,) bits of the nearest two frames.
    """
    for stride, firsts in ORDERS.items():
        stored.turn(partial(_reordered, stride=stride), with_mirrored=with_mirrored)
        for first in firsts:
            found, keys, owners = [np.empty(0, np.int64)], np.empty(0, np.uint64), np.empty(0, np.uint32)
            for more_keys, more_owners in _pieces(stored, _rotation(stride, first)):
                num_before = min(len(keys), NUM_NEIGHBORS)
                keys = np.concatenate([keys[-NUM_NEIGHBORS:], more_keys])
                owners = np.concatenate([owners[-NUM_NEIGHBORS:], more_owners])
                found.append(_one_each(_near(keys, owners, num_before, len(stored), with_mirrored)))
            one_each = _one_each(np.concatenate(found)) if len(found) > 2 else found[-1]
            yield one_each // 64, (one_each % 64).astype(np.uint8)


def _near(keys: np.ndarray, owners: np.ndarray, num_before: int, num_clips: int, with_mirrored: bool) -> np.ndarray:
    """Pairs · 64 + distance of near hashes among those that follow each other, without pairs of the first `num_before`
    hashes. The order of their bits changes no distance."""
    found = []
    for begin in range(0, len(keys), BLOCK):
        block = keys[begin : begin + BLOCK + NUM_NEIGHBORS]
        for step in range(1, min(NUM_NEIGHBORS, len(block) - 1) + 1):
            skipped = max(num_before - step - begin, 0)
            one = block[skipped : min(BLOCK, len(block) - step)]
            distance = np.bitwise_count(one ^ block[skipped + step : skipped + step + len(one)])
            rows = np.flatnonzero(distance <= MAX_FRAME_DISTANCE)
            places = begin + skipped + rows
            found.append(_pairs(owners[places], owners[places + step], distance[rows], num_clips, with_mirrored))
    return np.concatenate([np.empty(0, np.int64), *found])


def _pairs(
    one: np.ndarray, other: np.ndarray, distance: np.ndarray, num_clips: int, with_mirrored: bool
) -> np.ndarray:
    i, j = (one >> 1).astype(np.int64), (other >> 1).astype(np.int64)
    if with_mirrored:
        wanted, is_left = (i != j) & ((one ^ other) & 1 == 1), one & 1 == 0
        i, j = np.where(is_left, i, j), np.where(is_left, j, i)
    else:
        wanted = i != j
        i, j = np.minimum(i, j), np.maximum(i, j)
    return ((i * num_clips + j) * 64 + distance)[wanted]


def _one_each(found: np.ndarray) -> np.ndarray:
    """The nearest of each pair, sorted. `np.unique` hashes, which takes minutes for keys like these."""
    found.sort()
    return found[np.diff(found // 64, prepend=-1) > 0]


def _pieces(stored: StoredHashes, rotation: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The turned hashes, rotated and sorted, and whose they are: in pieces by their first bits."""
    blocks = ((_rotated(hashes, rotation), owners) for hashes, owners in stored.turned(PIECE))
    num_pieces = -(-stored.num_turned // PIECE)
    if num_pieces <= 1:
        both = list(blocks) or [(np.empty(0, np.uint64), np.empty(0, OWNER))]
        yield _sorted(*(np.concatenate(of) for of in zip(*both, strict=True)))
        return
    leading = np.bincount(_rotated(stored.sample, rotation) >> LEADING, minlength=2 ** (64 - int(LEADING)))
    piece_of = np.minimum(leading.cumsum() * num_pieces // leading.sum(), num_pieces - 1).astype(np.uint16)
    paths = [(stored.path(f"keys-{number}"), stored.path(f"of-{number}")) for number in range(num_pieces)]
    with ExitStack() as opened:
        files = [[opened.enter_context(open(path, "wb")) for path in of_piece] for of_piece in paths]
        for keys, owners in blocks:
            places = piece_of[keys >> LEADING]
            order = np.argsort(places, kind="stable")
            ends = np.bincount(places, minlength=num_pieces).cumsum().tolist()
            keys, owners = keys[order], owners[order]
            for (key_file, owner_file), rows in zip(files, starmap(slice, pairwise([0, *ends])), strict=True):
                keys[rows].tofile(key_file)
                owners[rows].tofile(owner_file)
    for key_path, owner_path in paths:
        yield _sorted(np.fromfile(key_path, np.uint64), np.fromfile(owner_path, OWNER))


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


def _reordered(hashes: np.ndarray, stride: int) -> np.ndarray:
    """(n,) uint64 with bit 63 of the hashes as the highest bit, then bit `63 - stride`, and so on round."""
    table = _bits_moved(stride)
    octets = hashes.astype("<u8").view(np.uint8).reshape(-1, 8)
    turned = table[0][octets[:, 0]]
    for byte in range(1, 8):
        turned |= table[byte][octets[:, byte]]
    return turned


def _rotation(stride: int, first: int) -> int:
    """Places by which reordered bits are rotated for bit `first` to lead."""
    return (63 - first) * pow(stride, -1, 64) % 64


def _rotated(turned: np.ndarray, places: int) -> np.ndarray:
    return turned << np.uint64(places) | turned >> np.uint64(64 - places) if places else turned


@cache
def _bits_moved(stride: int) -> np.ndarray:
    """(8, 256) uint64: where the bits of each value of each byte go."""
    values = np.arange(256, dtype=np.uint64)
    table = np.zeros((8, 256), np.uint64)
    for rank in range(64):
        byte, bit = divmod((63 - rank * stride) % 64, 8)
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
