"""Columns of a manifest in few bytes: a training keeps them for every clip, as long as it runs.

Numbers are of the smallest type that holds them, and values that repeat are numbered. Ids of 32 hexadecimal digits are
16 bytes. Of a digest of 32 digits the first 10 stay: one in 2⁴⁰ damaged payloads has the same. Offsets in tars are
counted in blocks.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

HEX = 32
DIGEST_BYTES = 5
BLOCK = 512
"""Bytes by which offsets in a tar are aligned."""
BLOCKS = b"blocks"
"""Metadata of columns that count blocks."""
OFFSETS, IDS, DIGESTS = ("offset", "text_offset"), ("clip_id",), ("digest", "text_digest")
NUMBERED = (pa.types.is_floating, pa.types.is_string, pa.types.is_large_string, pa.types.is_dictionary)
MAX_NUMBERED = 2**15
"""Different values of a column of numbers that is numbered."""


def compact(table: pa.Table) -> pa.Table:
    """The table with the same values in few bytes; `plain` gives them back. Columns of structs stay as they are."""
    found = [_compact(table[field.name].combine_chunks(), field) for field in table.schema]
    names = zip(table.column_names, found, strict=True)
    fields = [pa.field(name, array.type, metadata=metadata) for name, (array, metadata) in names]
    return pa.Table.from_arrays([array for array, _ in found], schema=pa.schema(fields))


def plain(values: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    """A column of `compact` as it was, but for digests; a column of another table as it is."""
    if pa.types.is_dictionary(values.type):
        return values.cast(values.type.value_type)
    if field.metadata and BLOCKS in field.metadata:
        return pc.multiply(values.cast(pa.int64()), BLOCK)
    if pa.types.is_integer(values.type):
        return values.cast(pa.int64())
    if pa.types.is_fixed_size_binary(values.type):
        return pa.chunked_array([_as_hex(chunk) for chunk in values.chunks], pa.large_string())
    return values


def plain_columns(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """Some columns of `compact` as they were."""
    return pa.table({name: plain(table[name], table.schema.field(name)) for name in names})


def plain_value(scalar: pa.Scalar, field: pa.Field) -> Any:
    """One value of a column of `compact`, as it was."""
    value = scalar.as_py()
    if isinstance(value, bytes):
        return value.hex()
    return value * BLOCK if value is not None and field.metadata and BLOCKS in field.metadata else value


def concatenated(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables of `compact` with the same columns, one after the other."""
    columns, fields = [], []
    for name in tables[0].column_names:
        of_tables = [table.schema.field(name) for table in tables]
        parts = [table[name] for table in tables]
        if pa.types.is_dictionary(of_tables[0].type):
            parts = [part.cast(pa.dictionary(pa.int32(), part.type.value_type)) for part in parts]
            fields.append(pa.field(name, parts[0].type))
        elif any(not field.equals(of_tables[0], check_metadata=True) for field in of_tables):
            parts = [plain(part, field) for part, field in zip(parts, of_tables, strict=True)]
            fields.append(pa.field(name, parts[0].type))
        else:
            fields.append(of_tables[0])
        columns.append(pa.chunked_array([chunk for part in parts for chunk in part.chunks], fields[-1].type))
    return compact(pa.Table.from_arrays(columns, schema=pa.schema(fields)).unify_dictionaries())


def _compact(values: pa.Array, field: pa.Field) -> tuple[pa.Array, dict[bytes, bytes] | None]:
    kind = values.type
    if field.metadata and BLOCKS in field.metadata:
        return values, field.metadata
    if field.name in (*IDS, *DIGESTS):
        return _of_hex(values, HEX // 2 if field.name in IDS else DIGEST_BYTES), None
    if field.name in OFFSETS and not pc.any(pc.not_equal(pc.bit_wise_and(values, BLOCK - 1), 0)).as_py():
        return _small(pc.divide(values, BLOCK)), {BLOCKS: b""}
    if pa.types.is_integer(kind):
        return _small(values), None
    if not any(is_kind(kind) for is_kind in NUMBERED):
        return values, None
    numbered = values if pa.types.is_dictionary(kind) else values.dictionary_encode()
    if pa.types.is_floating(kind) and len(numbered.dictionary) > MAX_NUMBERED:
        return values, None
    return pa.DictionaryArray.from_arrays(_small(numbered.indices), numbered.dictionary), None


def _small(values: pa.Array) -> pa.Array:
    """In the smallest type of whole numbers."""
    least, most = (one.as_py() or 0 for one in pc.min_max(values).values())
    for kind in (pa.int8(), pa.int16(), pa.int32()):
        limit = 2 ** (kind.bit_width - 1)
        if -limit <= least and most < limit:
            return values.cast(kind)
    return values


def _of_hex(values: pa.Array, width: int) -> pa.Array:
    """The first bytes of texts of 32 hexadecimal digits; others stay as they are."""
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        return values
    if not pc.all(pc.match_substring_regex(values, f"^[0-9a-f]{{{HEX}}}$"), min_count=0).as_py():
        return values
    texts = pc.binary_slice(pc.fill_null(values, "0" * HEX).cast(pa.large_binary()), 0, 2 * width)
    digits = np.frombuffer(texts.buffers()[2] or b"", np.uint8)[: 2 * width * len(values)]
    nibbles = (digits & 15) + 9 * (digits >> 6)  # "0" is 0x30, "a" is 0x61
    packed = pa.py_buffer((nibbles[::2] << 4 | nibbles[1::2]).tobytes())
    found = pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(values), [None, packed])
    return pc.if_else(values.is_valid(), found, None) if values.null_count else found


def _as_hex(values: pa.Array) -> pa.Array:
    width = values.type.byte_width
    packed = np.frombuffer(values.buffers()[1] or b"", np.uint8)[values.offset * width :][: len(values) * width]
    ends = pa.py_buffer(np.arange(len(values) + 1) * 2 * width)
    texts = pa.LargeStringArray.from_buffers(len(values), ends, pa.py_buffer(packed.tobytes().hex().encode()))
    return pc.if_else(values.is_valid(), texts, None) if values.null_count else texts
