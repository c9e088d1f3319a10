"""Columns of a table inside the page: exact, small, and read by `unpack` in policy.js.

A column of numbers is stored as whole numbers over a power of ten where that gives every double back (scores are
rounded to a few decimals when they are stored), else as doubles, by dictionary where they repeat. The bytes are stored
plane by plane (first the low byte of every value), which zlib makes less of, and are written in base64.
"""

import base64
import json
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

MAX_DECIMALS = 9
LEVEL = 4
"""Of zlib: higher ones take twice the time for 2 % fewer bytes."""
INTEGERS = (np.int8, np.int16, np.int32)


def pack_column(column: pa.ChunkedArray) -> dict[str, Any]:
    """A numeric column of N rows, nulls included: `numbers` (0 where null) and `valid` (None without any null)."""
    valid = pc.is_valid(column).to_numpy().astype(np.int8)
    numbers = pc.fill_null(pc.cast(column, pa.float64()), 0.0).to_numpy()
    return {"numbers": pack_numbers(numbers), "valid": None if valid.all() else pack_numbers(valid)}


def pack_numbers(values: npt.NDArray[Any]) -> dict[str, Any]:
    """`(N,)` integers or float64. The page reads back the same doubles."""
    scaled = _as_integers(values)
    if scaled is not None:
        integers, scale = scaled
        return {"type": integers.dtype.name, "length": len(values), "scale": scale, "data": _planes(integers)}
    distinct, codes = np.unique(values.view(np.int64), return_inverse=True)  # by bits: NaN and -0.0 stay what they are
    doubles = distinct.view(np.float64)
    if len(distinct) <= len(values) // 2:
        return {"codes": pack_numbers(codes), "values": _doubles(doubles)}
    return _doubles(values)


def pack_strings(strings: Sequence[str | None]) -> str:
    # A file name may hold bytes that are no UTF-8; json writes them as escapes.
    return _compressed(json.dumps(list(strings), separators=(",", ":")).encode())


def pack_texts(column: pa.ChunkedArray) -> dict[str, Any]:
    """A column of strings, by dictionary; code -1 is null."""
    codes = column.combine_chunks().dictionary_encode()
    indices = pc.fill_null(codes.indices, -1).to_numpy(zero_copy_only=False)
    return {"codes": pack_numbers(indices), "values": pack_strings(codes.dictionary.to_pylist())}


def _as_integers(values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], int] | None:
    """`(integers, scale)` with `integers / scale == values`, bit for bit; None if no scale does it."""
    if not len(values):
        return np.zeros(0, np.int8), 1
    values = values.astype(np.float64)
    if not np.isfinite(values).all() or np.abs(values).max() > np.iinfo(np.int32).max:
        return None
    if np.signbit(values[values == 0]).any():
        return None
    for decimals in range(MAX_DECIMALS + 1):
        scale = 10**decimals
        integers = np.rint(values * scale)
        largest = np.abs(integers).max()
        if largest > np.iinfo(np.int32).max:
            return None
        if np.array_equal(integers / scale, values):
            return integers.astype(next(t for t in INTEGERS if largest <= np.iinfo(t).max)), scale
    return None


def _doubles(values: npt.NDArray[np.float64]) -> dict[str, Any]:
    return {"type": "float64", "length": len(values), "scale": 1, "data": _planes(values)}


def _planes(values: npt.NDArray[Any]) -> str:
    little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    return _compressed(little.view(np.uint8).reshape(len(values), little.itemsize).T.tobytes())


def _compressed(payload: bytes) -> str:
    return base64.b64encode(zlib.compress(payload, LEVEL)).decode()
