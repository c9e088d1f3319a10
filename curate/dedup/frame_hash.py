"""Frame hashes: 64 bits that stay nearly the same through re-encoding, scaling, bars and small crops.

The DCT hash known as pHash (Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions",
§3.2.1): the low frequencies of the frame's cosine transform, each compared with their median. Departures: the
frame is cropped to its content box, so bars do not count; a flat frame has no hash; all arithmetic is on integers, so
every machine gives the same bits.
"""

from functools import cache

import numpy as np

THUMB_PX = 32
TICKS_PER_SECOND = 8
"""Ticks of absolute time. The first frame in each is hashed, so neither frame rate nor a scan in parts matters."""

NUM_FREQUENCIES = 8
FIXED_POINT = 2**14
"""Scale of the transform's integers: their products with pixels fit into 53 bits."""

NO_HASH = np.uint64(0)
"""Of a frame without structure. No real hash is 0: about half of its bits are set."""

MIN_CONTRAST = 0.3
"""Least mean size of the low frequencies, in gray levels, of a frame that has a hash."""

Box = tuple[float, float, float, float]
"""Top, left, bottom and right of the content, as fractions of the frame: 0, 0, 1, 1 is all of it."""


def thumbnail(luma: np.ndarray) -> np.ndarray:
    """(h, w) uint8 to (THUMB_PX, THUMB_PX) uint8, by area averaging."""
    import cv2

    return np.asarray(cv2.resize(luma, (THUMB_PX, THUMB_PX), interpolation=cv2.INTER_AREA))


def hash_frames(thumbs: np.ndarray, box: Box = (0.0, 0.0, 1.0, 1.0)) -> bytes:
    """Hashes of a clip's thumbnails, one per tick: (n, THUMB_PX, THUMB_PX) uint8 to n little-endian uint64."""
    top, left, bottom, right = (round(edge, 4) for edge in box)
    rows, columns = _transform(top, bottom), _transform(left, right)  # 2 × (8, P)
    half = np.matmul(rows, thumbs.astype(np.int64))  # (n, 8, P)
    coefficients = np.matmul(half, columns.T).reshape(len(thumbs), -1)[:, 1:]  # (n, 63): without the mean
    bits = coefficients > np.median(coefficients, axis=1, keepdims=True)
    hashes = (bits.astype(np.uint64) << np.arange(1, NUM_FREQUENCIES**2, dtype=np.uint64)).sum(1, dtype=np.uint64)
    contrast = np.abs(coefficients).mean(1) / FIXED_POINT**2
    return np.where(contrast < MIN_CONTRAST, NO_HASH, hashes).astype("<u8").tobytes()


def mirrored(hashes: np.ndarray) -> np.ndarray:
    """(n,) uint64 hashes of the mirror images, nearly: odd horizontal frequencies change their sign."""
    odd = np.uint64(sum(1 << bit for bit in range(NUM_FREQUENCIES**2) if bit % 2))
    return np.where(hashes == NO_HASH, NO_HASH, hashes ^ odd)


@cache
def _transform(low: float, high: float) -> np.ndarray:
    """(8, P) int64: samples of the part [low, high) of a side, then its lowest cosine frequencies."""
    edges = low * THUMB_PX + np.linspace(0, 1, THUMB_PX + 1) * (high - low) * THUMB_PX
    pixels = np.arange(THUMB_PX)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    samples = overlap.clip(0) / np.diff(edges)[:, None]  # (P, P): each row averages a 32nd of the part
    angles = np.pi / THUMB_PX * (np.arange(THUMB_PX) + 0.5)
    cosines = np.cos(angles * np.arange(NUM_FREQUENCIES)[:, None]) / THUMB_PX
    return np.rint(cosines @ samples * FIXED_POINT).astype(np.int64)
