"""Copies by frame hashes: clips that show nearly the same pictures at the same pace.

Two clips are compared where a frame of one nearly equals a frame of the other; there the one is laid over the other and
the mean distance of all frames that lie over each other decides. Candidates come from sorting: two frames that differ
in few bits agree in one of three thirds of them, so no all-pairs comparison is needed.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from curate.dedup.config import PerceptualConfig
from curate.dedup.frame_hash import NO_HASH, mirrored

BANDS = ((1, 21), (22, 21), (43, 21))
"""First bit and number of bits of each third of a hash."""

MAX_NEIGHBORS = 16
"""Frames that agree in a third are sorted by their whole hash and compared with this many that follow: equal pictures
(a logo, a title) stand in a row, and joining each to the next ones joins them all, at a bounded cost."""

MAX_FRAME_DISTANCE = 16
"""Bits by which two frames may differ to lay their clips over each other; unlike pictures differ in 31 ± 4."""

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
    lengths = np.diff(starts)
    placed: list[np.ndarray] = [np.empty((0, 3), np.int64)]
    for a, b in _near_frames(left, right):
        near = (owners[a] != owners[b]) & (np.bitwise_count(left[a] ^ right[b]) <= MAX_FRAME_DISTANCE)
        a, b = a[near], b[near]
        shift = (a - starts[owners[a]]) - (b - starts[owners[b]])  # where b's clip begins in a's
        around = [np.stack([owners[a], owners[b], shift + step], 1) for step in (-1, 0, 1)]
        placed.append(np.unique(np.concatenate(around), axis=0))
    candidates = np.unique(np.concatenate(placed), axis=0)
    one, other, shift = candidates.T
    overlap = np.minimum(lengths[one], lengths[other] + shift) - np.maximum(0, shift)
    enough = overlap >= np.maximum(1, config.min_overlap * np.maximum(lengths[one], lengths[other]))
    one, other, shift, overlap = one[enough], other[enough], shift[enough], overlap[enough]
    first_a = starts[one] + np.maximum(0, shift)
    first_b = starts[other] + np.maximum(0, -shift)
    same = np.zeros(len(one), bool)
    for part in _chunks(overlap):
        same[part] = _is_same(left, right, first_a[part], first_b[part], overlap[part], config)
    pairs = np.stack([np.minimum(one, other)[same], np.maximum(one, other)[same]], 1)
    return np.unique(pairs, axis=0)


def _near_frames(left: np.ndarray, right: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Numbers of frames (in `left`, in `right`) that agree in a third of their bits."""
    hashes = left if left is right else np.concatenate([left, right])
    count = len(left)
    known = np.flatnonzero(hashes != NO_HASH)
    for first, bits in BANDS:
        band = (hashes[known] >> np.uint64(first)) & np.uint64(2**bits - 1)
        order = np.lexsort((hashes[known], band))
        rows, band = known[order], band[order]
        for step in range(1, min(MAX_NEIGHBORS, len(rows) - 1) + 1):
            agree = band[step:] == band[:-step]
            if not agree.any():
                break
            a, b = rows[:-step][agree], rows[step:][agree]
            if left is right:
                yield np.minimum(a, b), np.maximum(a, b)
            else:
                crossed = (a < count) != (b < count)
                a, b = np.minimum(a, b)[crossed], np.maximum(a, b)[crossed]
                yield a, b - count


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
