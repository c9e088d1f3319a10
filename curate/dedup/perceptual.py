"""Copies by frame hashes: clips that show nearly the same frames at the same pace.

One clip is shifted over the other, to every offset with enough overlap. Two clips are copies if at one offset their
frames differ in few bits on average; or in some more bits, if their frames change at the same moments. The second rule
is for fast shots, whose copies are rarely hashed at the same instants. Another shot of the same camera fails it: it
shares the background and not the movement.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.dedup.components import join
from curate.dedup.config import PerceptualConfig
from curate.dedup.frame_hash import NO_HASH, TICKS_PER_SECOND, mirrored
from curate.dedup.neighbors import candidates, nearest, spread

LAG = TICKS_PER_SECOND // 2
"""Ticks between the two frames whose difference is a change."""

MIN_CHANGED_BITS = 16
"""Changes of fewer bits in all say nothing about when frames change."""

MAX_COMPARED = 256
"""Frames of an overlap that are compared, evenly spread: the cost of a pair of clips is bounded."""

CHUNK = 2_000_000


def perceptual_pairs(clips: pa.Table, config: PerceptualConfig) -> list[tuple[str, str]]:
    """Pairs that join the clips that show the same, the smaller id first: as few as connect them.

    Args:
        clips: `clip_id, frame_hashes`, in any order.
        config: the distances.
    """
    ids, blobs = clips["clip_id"], clips["frame_hashes"].cast(pa.large_binary())  # those of 2**31 bytes in all, too
    rows = (
        pa.table({"clip_id": ids, "blob": pc.fill_null(blobs, b"")}).sort_by("clip_id").combine_chunks()
    )  # at offset 0
    ids, blobs = rows["clip_id"], rows["blob"].combine_chunks()
    starts = np.concatenate([[0], pc.binary_length(blobs).to_numpy().cumsum() // 8])
    hashes = np.frombuffer(blobs.buffers()[2] or b"", "<u8")[: starts[-1]]
    first = np.arange(len(ids))
    for other in (hashes, mirrored(hashes)) if config.mirrored else (hashes,):
        first = _searched(first, hashes, other, starts, config)
    rows = np.flatnonzero(first != np.arange(len(first)))
    ends = (ids.take(pa.array(of)).to_pylist() for of in (first[rows], rows))
    return list(zip(*ends, strict=True))


def _searched(
    first: np.ndarray, left: np.ndarray, right: np.ndarray, starts: np.ndarray, config: PerceptualConfig
) -> np.ndarray:
    """The components `first` after clips are joined where one shows in `left` what the other shows in `right`."""
    num_clips, lengths = len(first), np.diff(starts)
    different = np.empty(0, np.int64)
    for keys, distances in candidates(left, right, starts):
        pairs = np.stack(np.divmod(keys, num_clips), 1)
        a, b = pairs.T
        fit = np.minimum(lengths[a], lengths[b]) >= _least_overlap(lengths, pairs, config)
        apart = fit & (first[a] != first[b]) & ~np.isin(keys, different, assume_unique=True)
        apart[apart] = nearest(pairs[apart], distances[apart])
        first = _joined(first, pairs[apart], left, right, starts, config)
        different = np.concatenate([different, keys[apart & (first[a] != first[b])]])
    return first


def _least_overlap(lengths: np.ndarray, pairs: np.ndarray, config: PerceptualConfig) -> np.ndarray:
    return np.ceil(config.min_overlap * lengths[pairs].max(1)).astype(np.int64)


def _joined(
    first: np.ndarray,
    pairs: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    starts: np.ndarray,
    config: PerceptualConfig,
) -> np.ndarray:
    """The components `first` after those of `pairs` (n, 2) are joined that show in `left` what is in `right`."""
    lengths = np.diff(starts)
    least = _least_overlap(lengths, pairs, config)
    num_shifts = lengths[pairs].sum(1) - 2 * least + 1
    for part in _chunks(num_shifts * np.minimum(lengths[pairs].min(1), MAX_COMPARED)):
        # What an earlier part has joined needs no comparison any more.
        rows = part.start + np.flatnonzero(first[pairs[part, 0]] != first[pairs[part, 1]])
        same = _are_same(left, right, starts, pairs[rows], num_shifts[rows], least[rows], config)
        first = join(first, *pairs[rows[same]].T)
    return first


def _are_same(
    left: np.ndarray,
    right: np.ndarray,
    starts: np.ndarray,
    pairs: np.ndarray,
    num_shifts: np.ndarray,
    least: np.ndarray,
    config: PerceptualConfig,
) -> np.ndarray:
    """(n,) bool of pairs (n, 2): whether some offset aligns a clip with its copy."""
    lengths = np.diff(starts)
    pair, shift = spread(num_shifts)
    a, b = pairs[pair].T
    # `shift` is where clip b begins in the time of clip a, from the least overlap on the left to that on the right.
    shift += least[pair] - lengths[b]
    overlap = np.minimum(lengths[a], lengths[b] + shift) - np.maximum(0, shift)
    first_a, first_b = starts[a] + np.maximum(0, shift), starts[b] + np.maximum(0, -shift)
    same = _is_same(left, right, first_a, first_b, overlap, config)
    return np.bincount(pair, same, len(pairs)) > 0


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
    limit = np.where(compared < config.few_frames, config.max_distance_few, config.max_distance)
    same = (compared > 0) & (total <= limit * compared)
    moving = ~same & (compared >= config.few_frames) & (total <= config.max_distance_moving * compared)
    rows = np.flatnonzero(moving & (overlap > LAG))
    different, changed = _changes(left, right, first_a[rows], first_b[rows], overlap[rows] - LAG, step[rows])
    same[rows] = (changed >= 2 * MIN_CHANGED_BITS) & (different <= config.max_disagreement * changed)
    return np.asarray(same)


def _sums(
    left: np.ndarray, right: np.ndarray, first_a: np.ndarray, first_b: np.ndarray, length: np.ndarray, step: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Bits by which frames differ, summed over an overlap, and how many were compared; frames `step` apart."""
    pair, within = spread(-(-length // step))
    within *= step[pair]
    a, b = left[first_a[pair] + within], right[first_b[pair] + within]
    # A flat frame tells nothing next to another flat one, and differs from any other.
    both_flat = (a == NO_HASH) & (b == NO_HASH)
    distance = np.where((a == NO_HASH) ^ (b == NO_HASH), 31, np.bitwise_count(a ^ b))
    return np.bincount(pair, np.where(both_flat, 0, distance), len(length)), np.bincount(pair, ~both_flat, len(length))


def _changes(
    left: np.ndarray, right: np.ndarray, first_a: np.ndarray, first_b: np.ndarray, length: np.ndarray, step: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Bits that changed within `LAG` in one of two clips only, and those that changed in either, counted for each."""
    pair, within = spread(-(-length // step))
    within *= step[pair]
    a, b = first_a[pair] + within, first_b[pair] + within
    hashed = np.stack([left[a], left[a + LAG], right[b], right[b + LAG]])
    seen = (hashed != NO_HASH).all(0)
    change_a, change_b = hashed[0] ^ hashed[1], hashed[2] ^ hashed[3]
    different = np.bitwise_count(change_a ^ change_b)
    changed = np.bitwise_count(change_a).astype(np.int64) + np.bitwise_count(change_b)
    return np.bincount(pair, different * seen, len(length)), np.bincount(pair, changed * seen, len(length))


def _chunks(sizes: np.ndarray) -> Iterator[slice]:
    """Slices of the rows, of about `CHUNK` in all each."""
    ends = sizes.cumsum()
    start = 0
    while start < len(sizes):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + CHUNK, side="right")))
        yield slice(start, stop)
        start = stop
