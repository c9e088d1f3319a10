import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem

from curate.dataset import store
from curate.dataset.store import Table, write_parquet
from curate.storage.publish import publish

SCHEMA = pa.schema([("id", pa.string()), ("value", pa.int64())])


def table(folder: Path) -> Table:
    return Table(str(folder / "t"), SCHEMA, ["id"])


def test_rows_come_back_sorted_by_key_and_the_last_part_wins(tmp_path: Path) -> None:
    table(tmp_path).publish([{"id": "b", "value": 1}, {"id": "a", "value": 2}])
    table(tmp_path).publish([{"id": "b", "value": 3}])
    assert table(tmp_path).rows() == [{"id": "a", "value": 2}, {"id": "b", "value": 3}]


def test_later_parts_win_by_their_number_not_by_its_digits(tmp_path: Path) -> None:
    for number in (999_999, 1_000_000, 2):
        rows = pa.Table.from_pylist([{"id": "a", "value": number}], schema=table(tmp_path).schema)
        write_parquet(f"{table(tmp_path).url}/part-{number:06d}-0.parquet", rows)
    assert table(tmp_path).rows() == [{"id": "a", "value": 1_000_000}]
    table(tmp_path).publish([{"id": "a", "value": 3}])
    assert table(tmp_path).rows() == [{"id": "a", "value": 3}]


def test_what_is_read_is_what_a_dictionary_would_hold(tmp_path: Path) -> None:
    schema = pa.schema([("a", pa.string()), ("b", pa.int64()), ("value", pa.float64()), ("data", pa.binary())])
    rng = np.random.default_rng(0)
    names = ["", "a", "B", "é", "z", "日", "🎬"]
    rows = [
        {"a": names[rng.integers(7)], "b": int(rng.integers(-3, 3)), "value": float(number), "data": bytes([number])}
        for number in range(200)
    ]
    both = Table(str(tmp_path / "t"), schema, ["a", "b"])
    for start in range(0, 200, 30):
        both.publish(rows[start : start + 30])
    last = {(row["a"], row["b"]): row for row in rows}
    assert both.rows() == [last[key] for key in sorted(last)]


def test_rows_that_are_discarded_are_gone_and_may_come_again(tmp_path: Path) -> None:
    one = table(tmp_path)
    for value in (1, 2):
        one.publish([{"id": name, "value": value} for name in "abc"])
    one.discard([("a",), ("nobody",)])
    assert [row["id"] for row in one.rows()] == ["b", "c"]
    one.publish([{"id": "a", "value": 3}])
    assert one.rows() == [{"id": "a", "value": 3}, {"id": "b", "value": 2}, {"id": "c", "value": 2}]


def test_publishing_lists_the_folder_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed, ls = [], LocalFileSystem.ls
    monkeypatch.setattr(
        LocalFileSystem, "ls", lambda fs, path, **kwargs: listed.append(path) or ls(fs, path, **kwargs)
    )
    one = table(tmp_path)
    for number in range(20):
        one.publish([{"id": str(number % 3), "value": number}])
    assert len(listed) == 1
    assert [row["value"] for row in one.rows()] == [18, 19, 17]


def test_two_that_publish_at_once_keep_all_their_rows(tmp_path: Path) -> None:
    one, other = table(tmp_path), table(tmp_path)
    for number in range(5):
        one.publish([{"id": f"one {number}", "value": number}])
        other.publish([{"id": f"other {number}", "value": number}])
    assert len(table(tmp_path).rows()) == 10


def test_a_column_that_an_earlier_reelpack_did_not_write_is_null(tmp_path: Path) -> None:
    table(tmp_path).publish([{"id": "a", "value": 1}])
    vector = pa.list_(pa.float32(), 2)
    grown = Table(str(tmp_path / "t"), SCHEMA.append(pa.field("new", vector)), ["id"])
    grown.publish([{"id": "b", "value": 2, "new": [1.0, 2.0]}])
    assert grown.rows() == [{"id": "a", "value": 1, "new": None}, {"id": "b", "value": 2, "new": [1.0, 2.0]}]
    table(tmp_path).compact(max_parts=1)
    assert table(tmp_path).rows() == [{"id": "a", "value": 1}, {"id": "b", "value": 2}]
    assert grown.rows() == [{"id": "a", "value": 1, "new": None}, {"id": "b", "value": 2, "new": [1.0, 2.0]}]


def test_merged_parts_read_the_same_also_where_the_old_ones_are_still_there(tmp_path: Path) -> None:
    for number in range(7):
        table(tmp_path).publish([{"id": str(number % 3), "value": number}, {"id": f"only {number}", "value": 0}])
    rows = table(tmp_path).rows()
    old = {path.name: path.read_bytes() for path in (tmp_path / "t").iterdir()}
    table(tmp_path).compact(max_parts=7)
    assert {path.name for path in (tmp_path / "t").iterdir()} == old.keys()
    table(tmp_path).compact(max_parts=6)
    [merged] = (tmp_path / "t").iterdir()
    assert table(tmp_path).rows() == rows
    for name, data in old.items():  # killed before it removed them
        merged.with_name(name).write_bytes(data)
    assert table(tmp_path).rows() == rows
    table(tmp_path).publish([{"id": "1", "value": 99}])
    table(tmp_path).compact(max_parts=1)
    assert {row["id"]: row["value"] for row in table(tmp_path).rows()}["1"] == 99
    assert len(list((tmp_path / "t").iterdir())) == 1


def test_parts_are_merged_up_to_a_size_and_the_order_in_which_they_win_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = table(tmp_path), table(tmp_path)
    for number in range(30):
        one.publish([{"id": str(number % 7), "value": number}])
        other.publish([{"id": str(number % 5), "value": -number}])  # of the same number
    rows, largest = table(tmp_path).rows(), max(path.stat().st_size for path in (tmp_path / "t").iterdir())
    monkeypatch.setattr(store, "MERGED_BYTES", 4 * largest)
    table(tmp_path).compact(max_parts=1)
    assert 60 / 5 < len(table(tmp_path).part_names()) <= 60 / 2
    assert table(tmp_path).rows() == rows
    table(tmp_path).compact(max_parts=1)
    assert len(table(tmp_path).part_names()) > 1
    assert table(tmp_path).rows() == rows
    table(tmp_path).discard([("3",)])
    assert table(tmp_path).rows() == [row for row in rows if row["id"] != "3"]


def test_some_columns_are_read_as_they_stand_in_all(tmp_path: Path) -> None:
    for number in range(20):
        table(tmp_path).publish([{"id": str(number % 6), "value": number}, {"id": "x", "value": number}])
    whole = table(tmp_path).read()
    assert table(tmp_path).read(["value"]) == whole
    assert table(tmp_path).read([]) == whole.select(["id"])
    assert table(tmp_path).ids() == set(whole["id"].to_pylist())


def test_a_reader_is_not_disturbed_by_parts_that_are_merged(tmp_path: Path) -> None:
    for number in range(40):
        table(tmp_path).publish([{"id": str(number), "value": number}])

    class Reader(Table):
        def part_names(self) -> list[str]:
            names = super().part_names()
            table(tmp_path).compact(max_parts=1)
            return names

    assert len(Reader(str(tmp_path / "t"), SCHEMA, ["id"]).rows()) == 40


def test_a_table_that_nobody_wrote_is_empty(tmp_path: Path) -> None:
    assert table(tmp_path).rows() == []


def test_tables_work_behind_a_url() -> None:
    remote = Table("memory://store-test/t", SCHEMA, ["id"])
    remote.publish([{"id": "a", "value": 1}])
    assert remote.rows() == [{"id": "a", "value": 1}]


def test_an_error_while_writing_publishes_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), publish(str(tmp_path / "file")) as file:
        file.write(b"half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_kill_while_writing_leaves_the_table_as_it_was(tmp_path: Path) -> None:
    table(tmp_path).publish([{"id": "a", "value": 1}])
    code = f"""
        import os, signal
        from curate.storage.publish import publish
        with publish({str(tmp_path / "t" / "part-000001-x.parquet")!r}) as file:
            file.write(b"half a part")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=os.getcwd(), check=False)
    assert killed.returncode == -signal.SIGKILL
    assert table(tmp_path).rows() == [{"id": "a", "value": 1}]


def test_a_part_of_another_schema_version_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    write_parquet(str(tmp_path / "t" / "part-000000-x.parquet"), pa.table({"id": ["a"], "value": [1]}))
    with pytest.raises(ValueError, match="schema version none, expected"):
        table(tmp_path).read()


def test_equal_rows_give_equal_bytes(tmp_path: Path) -> None:
    rows = pa.table({"id": ["a", "b"], "value": [1, 2]})
    for name in ("x", "y"):
        write_parquet(str(tmp_path / name), rows)
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()


def test_rows_of_a_key_are_found_and_few_others_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "PART_GROUP", 10)
    one = table(tmp_path)
    for number in range(4):
        one.publish([{"id": f"{place:03d}", "value": number} for place in range(99, number, -1)])
    rows, read = one.rows(), list[int]()
    groups = pq.ParquetFile.read_row_groups

    def counted(file: pq.ParquetFile, some: list[int], *columns: list[str]) -> pa.Table:
        read.append(len(some))
        return groups(file, some, *columns)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", counted)
    for name in ("001", "050", "099", "1"):
        assert one.of(name).to_pylist() == [row for row in rows if row["id"] == name]
    assert one.between("03", "05").to_pylist() == [row for row in rows if "03" <= row["id"] < "05"]
    assert len(read) == 5 * 4 and sum(read) <= 4 * (1 + 1 + 1 + 0 + 3)
