"""Draws that are functions of what they are for: (seed, epoch, clip, purpose) → numbers, for many clips at once.

The plan needs to know how many tokens each sample of an epoch has before anything is read; the loader must find the
same. Both ask here. The generator is SplitMix64 (Steele et al. 2014) in counter mode.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_GOLDEN = 0x9E3779B97F4A7C15
_MIX1, _MIX2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def clip_keys(clip_ids: pa.ChunkedArray) -> np.ndarray:
    """(N,) uint64: the first 64 bits of hexadecimal ids."""
    digits = pc.binary_slice(clip_ids.cast(pa.large_binary()), 0, 16).cast(pa.binary(16))
    parts = [
        np.frombuffer(part.buffers()[1], np.uint8)[16 * part.offset :][: 16 * len(part)] for part in digits.chunks
    ]
    characters = np.concatenate([np.zeros(0, np.uint8), *parts]).reshape(-1, 16)
    nibbles = (characters & 15) + 9 * (characters >> 6)  # "0" is 0x30, "a" is 0x61
    return (nibbles[:, ::2] << 4 | nibbles[:, 1::2]).copy().view(">u8")[:, 0].astype(np.uint64)


def copy_keys(keys: np.ndarray, copies: np.ndarray) -> np.ndarray:
    """(N,) keys of clips that are seen for several datasets, apart: copy 0 keeps the clip's own key."""
    return np.where(copies > 0, _mix(keys + copies.astype(np.uint64) * np.uint64(_GOLDEN)), keys)


def window_keys(keys: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """(N,) keys of the windows of clips, by number; the first keeps the clip's own key."""
    return copy_keys(keys, windows.astype(np.int64) << 32)


def uniform(keys: np.ndarray, *purpose: int) -> np.ndarray:
    """(N,) float64 in [0, 1): one number per key and purpose, the same on every machine."""
    state = keys.astype(np.uint64)
    for part in purpose:
        state = _mix(state + np.uint64((part + 1) * _GOLDEN % 2**64))
    return (_mix(state + np.uint64(_GOLDEN)) >> np.uint64(11)).astype(np.float64) / 2**53


def _mix(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * _MIX1
    z = (z ^ (z >> np.uint64(27))) * _MIX2
    return z ^ (z >> np.uint64(31))
