"""Copies by frame hashes: clips that show nearly the same pictures at the same pace.

One clip is laid over the other at every place where enough of both lies over each other; the least mean distance of
the frames decides. Which clips are compared at all comes from sorting: hashes that differ in few bits stand close to
each other in one of several orders, so no all-pairs comparison is needed.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from curate.dedup.config import PerceptualConfig
from curate.dedup.frame_hash import NO_HASH, mirrored

ROTATIONS = range(0, 63, 7)
"""The orders: hashes turned by so many bits, then sorted. Near hashes share a long prefix in one of them."""

NUM_NEIGHBORS = 8
"""In each order a frame is compared with so many that follow: a bounded cost, however many frames are alike."""

STILL_BITS = 2
"""A frame this near to the one before adds no candidates: a still clip does not crowd out its copies."""

MAX_FRAME_DISTANCE = 12
"""Bits by which two frames may differ to have their clips compared; unlike pictures differ in 31 ± 4."""

CHUNK = 2_000_000


def perceptual_pairs(clips: pa.Table, config: PerceptualConfig) -> list[tuple[str, str]]:
    """Pairs of clip ids that show the same.

    Args:
        clips: `clip_id, frame_hashes`, in any order.
        config: the distances.
    """
    clips = clips.select(["clip_id", "frame_hashes"]).sort_by("clip_id")
    blobs = [blob or b"" for blob in clips["frame_hashes"].to_pylist()]
    lengths = np.array([len(blob) // 8 for blob in blobs], np.int64)
    hashes = np.frombuffer(b"".join(blobs), "<u8")
    starts = np.concatenate([[0], lengths.cumsum()])
    owners = np.repeat(np.arange(len(blobs)), lengths)
    found = [_matches(hashes, hashes, starts, owners, config)]
    if config.mirrored:
        found.append(_matches(hashes, mirrored(hashes), starts, owners, config))
    pairs = np.unique(np.concatenate(found), axis=0)
    ids = clips["clip_id"].to_pylist()
    return [(ids[a], ids[b]) for a, b in pairs.tolist()]


def _matches(
    left: np.ndarray, right: np.ndarray, starts: np.ndarray, owners: np.ndarray, config: PerceptualConfig
) -> np.ndarray:
    """Rows (n, 2) of clips, the smaller number first, of which one shows in `left` what the other does in `right`."""
    one, other = _candidates(left, right, owners).T
    lengths = np.diff(starts)
    longer, shorter = (pick(lengths[one], lengths[other]) for pick in (np.maximum, np.minimum))
    least = np.ceil(config.min_overlap * longer).astype(np.int64)
    one, other, least = (column[shorter >= least] for column in (one, other, least))
    # `shift` is where the other clip begins in the one's time, from the least overlap on the left to that on the
    # right.
    num_shifts = lengths[one] + lengths[other] - 2 * least + 1
    pair = np.repeat(np.arange(len(one)), num_shifts)
    shift = np.arange(len(pair)) - np.repeat(num_shifts.cumsum() - num_shifts, num_shifts)
    shift += least[pair] - lengths[other][pair]
    a, b = one[pair], other[pair]
    overlap = np.minimum(lengths[a], lengths[b] + shift) - np.maximum(0, shift)
    first_a, first_b = starts[a] + np.maximum(0, shift), starts[b] + np.maximum(0, -shift)
    same = np.zeros(len(pair), bool)
    for part in _chunks(overlap):
        same[part] = _is_same(left, right, first_a[part], first_b[part], overlap[part], config)
    return np.unique(np.sort(np.stack([a[same], b[same]], 1), axis=1), axis=0)


def _candidates(left: np.ndarray, right: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Rows (n, 2) of clips to compare, in `left` and in `right`; if these are the same, the smaller number first."""
    telling = (left != NO_HASH) & np.concatenate(
        [[True], (owners[1:] != owners[:-1]) | (np.bitwise_count(left[1:] ^ left[:-1]) > STILL_BITS)]
    )
    rows = np.flatnonzero(telling)
    hashes, who, is_left = left[rows], owners[rows], np.ones(len(rows), bool)
    if left is not right:
        hashes, who = np.concatenate([hashes, right[rows]]), np.tile(who, 2)
        is_left = np.concatenate([is_left, ~is_left])
    num_clips = int(owners[-1]) + 1 if len(owners) else 0
    found = [np.empty(0, np.int64)]
    for turn in ROTATIONS:
        turned = (hashes >> np.uint64(turn)) | (hashes << np.uint64(64 - turn)) if turn else hashes
        order = np.argsort(turned, kind="stable")
        for step in range(1, min(NUM_NEIGHBORS, len(order) - 1) + 1):
            i, j = order[:-step], order[step:]
            near = (who[i] != who[j]) & (np.bitwise_count(hashes[i] ^ hashes[j]) <= MAX_FRAME_DISTANCE)
            if left is not right:
                near &= is_left[i] != is_left[j]
            i, j = i[near], j[near]
            swap = who[i] > who[j] if left is right else ~is_left[i]
            i, j = np.where(swap, j, i), np.where(swap, i, j)
            found.append(who[i] * num_clips + who[j])
    pairs = np.unique(np.concatenate(found))
    return np.stack(np.divmod(pairs, max(1, num_clips)), 1)


def _is_same(
    left: np.ndarray,
    right: np.ndarray,
    first_a: np.ndarray,
    first_b: np.ndarray,
    overlap: np.ndarray,
    config: PerceptualConfig,
) -> np.ndarray:
    """Whether frames `first_a …` and `first_b …` are the same pictures, over `overlap` of them: (n,) bool."""
    pair = np.repeat(np.arange(len(overlap)), overlap)
    within = np.arange(len(pair)) - np.repeat(overlap.cumsum() - overlap, overlap)
    a, b = left[first_a[pair] + within], right[first_b[pair] + within]
    # A flat frame says nothing beside another one, and is unlike any other.
    both_flat = (a == NO_HASH) & (b == NO_HASH)
    distance = np.where((a == NO_HASH) ^ (b == NO_HASH), 31, np.bitwise_count(a ^ b))
    total = np.bincount(pair, np.where(both_flat, 0, distance), len(overlap))
    compared = np.bincount(pair, ~both_flat, len(overlap))
    limit = np.where(compared < config.few_frames, config.max_distance_few, config.max_distance)
    return np.asarray((compared > 0) & (total <= limit * compared))


def _chunks(sizes: np.ndarray) -> Iterator[slice]:
    """Slices of the rows, of about `CHUNK` in all each."""
    ends = sizes.cumsum()
    start = 0
    while start < len(sizes):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + CHUNK, side="right")))
        yield slice(start, stop)
        start = stop
