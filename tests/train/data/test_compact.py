"""A manifest in few bytes gives the values that the indices have."""

import numpy as np
import pyarrow as pa
import pytest

from train.data.compact import DIGEST_BYTES, compact, concatenated, plain_columns, plain_value

NUM = 1000


def table(seed: int, *, shards: int = 40, far: int = 2**20, ids: str = "") -> pa.Table:
    """Rows as `read_manifest` joins them; some have no text."""
    rng = np.random.default_rng(seed)
    names = [f"{ids}{seed:02x}{number:030x}" for number in range(NUM)]
    digests = [None if number % 7 == 0 else f"{number:08x}{seed:024x}" for number in range(NUM)]
    numbers = pa.array(rng.integers(0, shards, NUM), pa.int32())
    return pa.table(
        {
            "clip_id": pa.array(names, pa.large_string()),
            "kind": pa.array(rng.choice(["image", "video"], NUM), pa.large_string()),
            "shard": [f"train-{number:06d}.tar" for number in numbers.to_pylist()],
            "offset": rng.integers(0, far, NUM) * 512,
            "size": rng.integers(0, 2**20, NUM),
            "digest": pa.array(digests, pa.large_string()),
            "fps": pa.array([None, 24.0] * (NUM // 2)),
            "number": rng.random(NUM),
            "text_offset": pa.array([None if number % 5 == 0 else 512 * number for number in range(NUM)]),
            "latents_root": pa.DictionaryArray.from_arrays(numbers, [f"/latents/{seed}/{n}" for n in range(shards)]),
        }
    )


def expected(given: pa.Table, *, whole: bool = False) -> list[dict]:
    rows = given.to_pylist()
    return rows if whole else [{**row, "digest": row["digest"] and row["digest"][: 2 * DIGEST_BYTES]} for row in rows]


@pytest.mark.parametrize("given", [{}, {"far": 2**40}, {"shards": 400}], ids=str)
def test_columns_and_rows_come_back_and_take_few_bytes(given: dict[str, int]) -> None:
    wide = table(1, **given)
    small = compact(wide)
    assert plain_columns(small, small.column_names).to_pylist() == expected(wide)
    rows = small.take(np.array([3, 5, 998]))
    fields = [rows.schema.field(name) for name in rows.column_names]
    found = [{field.name: plain_value(rows[field.name][row], field) for field in fields} for row in range(3)]
    assert found == [expected(wide)[row] for row in (3, 5, 998)]
    of_row = small.drop_columns(["number", "latents_root"]).nbytes / NUM
    assert of_row < (56 if given.get("far") else 48)


def test_offsets_between_blocks_and_ids_that_are_no_hexadecimal_digits_stay() -> None:
    wide = table(1, ids="clip-")
    wide = wide.set_column(3, "offset", pa.array(np.arange(NUM)))
    small = compact(wide)
    assert plain_columns(small, ["clip_id", "offset"]).equals(wide.select(["clip_id", "offset"]))


def test_tables_of_other_widths_are_one_table() -> None:
    parts = [table(1), table(2, shards=400, far=2**40), table(3, ids="x")]
    joined = concatenated([compact(part) for part in parts])
    found = plain_columns(joined, joined.column_names).to_pylist()
    assert found == [row for part in parts for row in expected(part)]
