import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pyarrow as pa
import pytest

from curate.store import Table, publish, write_parquet

SCHEMA = pa.schema([("id", pa.string()), ("value", pa.int64())])


def table(folder: Path) -> Table:
    return Table(str(folder / "t"), SCHEMA, ["id"])


def test_rows_come_back_sorted_by_key_and_the_last_part_wins(tmp_path: Path) -> None:
    table(tmp_path).publish([{"id": "b", "value": 1}, {"id": "a", "value": 2}])
    table(tmp_path).publish([{"id": "b", "value": 3}])
    assert table(tmp_path).rows() == [{"id": "a", "value": 2}, {"id": "b", "value": 3}]


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
        from curate.store import publish
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
