"""Copies by frame hashes: clips that show nearly the same frames at the same pace.

One clip is shifted over the other, to every offset with enough overlap. Two clips are copies if at one offset their
frames differ in few bits on average; or in some more bits, if their frames change at the same moments. The second rule
is for fast shots, whose copies are rarely hashed at the same instants. Another shot of the same camera fails it: it
shares the background and not the movement.
"""

import tempfile
from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa

from curate.dedup.components import join, roots
from curate.dedup.config import PerceptualConfig
from curate.dedup.frame_hash import NO_HASH, TICKS_PER_SECOND
from curate.dedup.neighbors import candidates, nearest, spread
from curate.dedup.stored import Frames, StoredHashes

LAG = TICKS_PER_SECOND // 2
"""Ticks between the two frames whose difference is a change."""

MIN_CHANGED_BITS = 16
"""Changes of fewer bits in all say nothing about when frames change."""

MAX_COMPARED = 256
"""Frames of an overlap that are compared, evenly spread: the cost of a pair of clips is bounded."""

CHUNK = 2_000_000
MANY = 64
"""Pairs of clips of the same lengths that are compared together: that takes a tenth of the time."""


def perceptual_pairs(clips: pa.Table | Iterable[pa.Table], config: PerceptualConfig) -> list[tuple[str, str]]:
    """Pairs that join the clips that show the same, the smaller id first: as few as connect them.

    Args:
        clips: `clip_id, frame_hashes`: a table in any order, or tables in order of id.
        config: the distances.
    """
    tables = [clips.sort_by("clip_id")] if isinstance(clips, pa.Table) else clips
    with tempfile.TemporaryDirectory(prefix="reelpack-hashes-") as folder:
        stored = StoredHashes(tables, folder)
        first = np.arange(len(stored))
        for is_mirrored in (False, True)[: 1 + config.mirrored]:
            _search(first, stored, config, is_mirrored=is_mirrored)
        rows = np.flatnonzero(first != np.arange(len(first)))
        ends = np.unique([roots(first, rows), rows])
        ids = stored.ids(ends)
        names = (ids.take(pa.array(np.searchsorted(ends, of))).to_pylist() for of in (roots(first, rows), rows))
        return list(zip(*names, strict=True))


def _search(first: np.ndarray, stored: StoredHashes, config: PerceptualConfig, *, is_mirrored: bool) -> None:
    """Join the components `first` where one clip shows what another, or its mirror image, shows."""
    lengths, different = stored.lengths, _Different(stored, f"different-{is_mirrored}")
    for keys, distances in candidates(stored, with_mirrored=is_mirrored):
        is_apart = np.zeros(len(keys), bool)
        for block, rows in _by_block(keys, stored):
            a, b = _clips_of(keys[rows], stored)
            fit = np.minimum(lengths[a], lengths[b]) >= _least_overlap(lengths[a], lengths[b], config)
            is_apart[rows] = fit & (roots(first, a) != roots(first, b)) & ~different.has(block, keys[rows])
        keys, distances = keys[is_apart], distances[is_apart]
        keys = keys[nearest(np.stack(_clips_of(keys, stored), 1), distances)]
        for block, rows in _by_block(keys, stored):
            left, (_, b) = stored.frames(block), _clips_of(keys[rows], stored)
            of_blocks = np.searchsorted(stored.blocks, b, side="right") - 1
            for other in np.unique(of_blocks).tolist():
                right = left if other == block else stored.frames(other)
                right = right.mirrored() if is_mirrored else right
                _join(first, *_clips_of(keys[rows][of_blocks == other], stored), left, right, config)
        for block, rows in _by_block(keys, stored):
            a, b = _clips_of(keys[rows], stored)
            different.add(block, keys[rows][roots(first, a) != roots(first, b)])


def _clips_of(keys: np.ndarray, stored: StoredHashes) -> tuple[np.ndarray, np.ndarray]:
    return np.divmod(keys, max(len(stored), 1))


def _by_block(keys: np.ndarray, stored: StoredHashes) -> Iterator[tuple[int, slice]]:
    """The rows of sorted keys whose first clips are in a block."""
    ends = np.searchsorted(keys, stored.blocks * len(stored)).tolist()
    return ((block, slice(*rows)) for block, rows in enumerate(pairwise(ends)) if rows[0] < rows[1])


class _Different:
    """Pairs that were compared and differ, in a file for each block."""

    def __init__(self, stored: StoredHashes, name: str) -> None:
        self._path = stored.path(name)
        self._found = set[int]()

    def has(self, block: int, keys: np.ndarray) -> np.ndarray:
        """(n,) bool of sorted keys."""
        if block not in self._found:
            return np.zeros(len(keys), bool)
        known = np.fromfile(f"{self._path}-{block}", np.int64)
        known.sort(kind="stable")  # of pieces that are sorted
        places = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        return np.asarray(known[places] == keys)

    def add(self, block: int, keys: np.ndarray) -> None:
        if len(keys):
            self._found.add(block)
            with open(f"{self._path}-{block}", "ab") as file:
                keys.tofile(file)


def _least_overlap(one: np.ndarray, other: np.ndarray, config: PerceptualConfig) -> np.ndarray:
    """Of clips of these lengths."""
    return np.ceil(config.min_overlap * np.maximum(one, other)).astype(np.int64)


def _join(
    first: np.ndarray, a: np.ndarray, b: np.ndarray, left: Frames, right: Frames, config: PerceptualConfig
) -> None:
    """Join the components `first` of the clips `a` (n,) and `b` (n,) that show in `left` what is in `right`."""
    of_a, of_b = np.diff(left.starts)[a - left.first], np.diff(right.starts)[b - right.first]
    num_shifts = of_a + of_b - 2 * _least_overlap(of_a, of_b, config) + 1
    for part in _chunks(num_shifts * np.minimum(np.minimum(of_a, of_b), MAX_COMPARED)):
        # What an earlier part has joined needs no comparison any more.
        rows = part.start + np.flatnonzero(roots(first, a[part]) != roots(first, b[part]))
        same = _are_same(left, right, a[rows] - left.first, b[rows] - right.first, config)
        join(first, a[rows[same]], b[rows[same]])


def _are_same(left: Frames, right: Frames, a: np.ndarray, b: np.ndarray, config: PerceptualConfig) -> np.ndarray:
    """(n,) bool of clips `a` (n,) and `b` (n,): whether some offset aligns one with the other."""
    starts_a, starts_b = left.starts[a], right.starts[b]
    of_a, of_b = left.starts[a + 1] - starts_a, right.starts[b + 1] - starts_b
    same, is_left = np.zeros(len(a), bool), np.ones(len(a), bool)
    kinds, counts = np.unique(of_a << 32 | of_b, return_counts=True)
    for kind in kinds[counts >= MANY].tolist():
        length_a, length_b = kind >> 32, kind & (2**32 - 1)
        if max(length_a, length_b) <= MAX_COMPARED:
            rows = np.flatnonzero((of_a == length_a) & (of_b == length_b))
            frames_a = left.hashes[starts_a[rows] + np.arange(length_a)[:, None]]
            frames_b = right.hashes[starts_b[rows] + np.arange(length_b)[:, None]]
            same[rows], is_left[rows] = _are_same_alike(frames_a, frames_b, config), False
    rows = np.flatnonzero(is_left)
    same[rows] = _are_same_any(left, right, starts_a[rows], starts_b[rows], of_a[rows], of_b[rows], config)
    return same


def _are_same_alike(left: np.ndarray, right: np.ndarray, config: PerceptualConfig) -> np.ndarray:
    """(n,) bool of pairs of clips (a, n) and (b, n): `_are_same_any` of clips of the same lengths, frame by frame."""
    length_a, length_b = len(left), len(right)
    least = int(_least_overlap(np.array(length_a), np.array(length_b), config))
    has_flat = bool((left == NO_HASH).any() or (right == NO_HASH).any())
    same = np.zeros(left.shape[1], bool)
    for shift in range(least - length_b, length_a - least + 1):
        overlap = min(length_a, length_b + shift) - max(0, shift)
        a, b = left[max(0, shift) :][:overlap], right[max(0, -shift) :][:overlap]
        distance, compared = np.bitwise_count(a ^ b), np.full(left.shape[1], overlap)
        if has_flat:
            distance, is_told = _told(a, b, distance)
            compared = is_told.sum(0)
        total = distance.sum(0, dtype=np.int64)
        found, moving = _by_distance(total, compared, config)
        rows = np.flatnonzero(moving & ~same)
        if overlap > LAG and len(rows):
            hashed = np.stack([a[:-LAG, rows], a[LAG:, rows], b[:-LAG, rows], b[LAG:, rows]])
            different, changed = _changed(hashed)
            found[rows] = _by_changes(different.sum(0), changed.sum(0), config)
        same |= found
    return same


def _are_same_any(
    left: Frames,
    right: Frames,
    starts_a: np.ndarray,
    starts_b: np.ndarray,
    of_a: np.ndarray,
    of_b: np.ndarray,
    config: PerceptualConfig,
) -> np.ndarray:
    """(n,) bool of clips that begin at `starts_a` and `starts_b` (n,) and have `of_a` and `of_b` frames."""
    least = _least_overlap(of_a, of_b, config)
    pair, shift = spread(of_a + of_b - 2 * least + 1)
    # `shift` is where clip b begins in the time of clip a, from the least overlap on the left to that on the right.
    shift += least[pair] - of_b[pair]
    overlap = np.minimum(of_a[pair], of_b[pair] + shift) - np.maximum(0, shift)
    first_a, first_b = starts_a[pair] + np.maximum(0, shift), starts_b[pair] + np.maximum(0, -shift)
    same = _is_same(left.hashes, right.hashes, first_a, first_b, overlap, config)
    return np.bincount(pair, same, len(of_a)) > 0


def _is_same(
    left: np.ndarray,
    right: np.ndarray,
    first_a: np.ndarray,
    first_b: np.ndarray,
    overlap: np.ndarray,
    config: PerceptualConfig,
) -> np.ndarray:
    """Whether frames `first_a …` and `first_b …` are the same frames, over `overlap` of them: (n,) bool."""
    step = -(-overlap // MAX_COMPARED)
    total, compared = _sums(left, right, first_a, first_b, overlap, step)
    same, moving = _by_distance(total, compared, config)
    rows = np.flatnonzero(moving & (overlap > LAG))
    different, changed = _changes(left, right, first_a[rows], first_b[rows], overlap[rows] - LAG, step[rows])
    same[rows] = _by_changes(different, changed, config)
    return same


def _by_distance(total: np.ndarray, compared: np.ndarray, config: PerceptualConfig) -> tuple[np.ndarray, np.ndarray]:
    """(n,) bool: the same by the bits in which their frames differ; and the others, of which the changes decide."""
    limit = np.where(compared < config.few_frames, config.max_distance_few, config.max_distance)
    same = (compared > 0) & (total <= limit * compared)
    moving = ~same & (compared >= config.few_frames) & (total <= config.max_distance_moving * compared)
    return np.asarray(same), np.asarray(moving)


def _by_changes(different: np.ndarray, changed: np.ndarray, config: PerceptualConfig) -> np.ndarray:
    return np.asarray((changed >= 2 * MIN_CHANGED_BITS) & (different <= config.max_disagreement * changed))


def _told(a: np.ndarray, b: np.ndarray, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bits by which frames differ, and which frames tell something: a flat frame tells nothing next to another flat
    one, and differs from any other."""
    both_flat = (a == NO_HASH) & (b == NO_HASH)
    distance = np.where((a == NO_HASH) ^ (b == NO_HASH), 31, distance)
    return np.where(both_flat, 0, distance), ~both_flat


def _sums(
    left: np.ndarray, right: np.ndarray, first_a: np.ndarray, first_b: np.ndarray, length: np.ndarray, step: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Bits by which frames differ, summed over an overlap, and how many were compared; frames `step` apart."""
    pair, within = spread(-(-length // step))
    within *= step[pair]
    a, b = left[first_a[pair] + within], right[first_b[pair] + within]
    distance, is_told = _told(a, b, np.bitwise_count(a ^ b))
    return np.bincount(pair, distance, len(length)), np.bincount(pair, is_told, len(length))


def _changes(
    left: np.ndarray, right: np.ndarray, first_a: np.ndarray, first_b: np.ndarray, length: np.ndarray, step: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Bits that changed within `LAG` in one of two clips only, and those that changed in either, counted for each."""
    pair, within = spread(-(-length // step))
    within *= step[pair]
    a, b = first_a[pair] + within, first_b[pair] + within
    different, changed = _changed(np.stack([left[a], left[a + LAG], right[b], right[b + LAG]]))
    return np.bincount(pair, different, len(length)), np.bincount(pair, changed, len(length))


def _changed(hashed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Likewise of each frame: (4, …) hashes of a clip, of it `LAG` later, and of the other clip."""
    seen = (hashed != NO_HASH).all(0)
    change_a, change_b = hashed[0] ^ hashed[1], hashed[2] ^ hashed[3]
    different = np.bitwise_count(change_a ^ change_b).astype(np.int64)
    changed = np.bitwise_count(change_a).astype(np.int64) + np.bitwise_count(change_b)
    return different * seen, changed * seen


def _chunks(sizes: np.ndarray) -> Iterator[slice]:
    """Slices of the rows, of about `CHUNK` in all each."""
    ends = sizes.cumsum()
    start = 0
    while start < len(sizes):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + CHUNK, side="right")))
        yield slice(start, stop)
        start = stop
