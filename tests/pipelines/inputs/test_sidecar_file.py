"""A sidecar file is read as it was written, or refused with the line."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.config import load_config
from pipelines.drivers.curate import curate
from pipelines.inputs.sidecar import read_sidecar
from pipelines.inputs.sidecar_file import SidecarConfig
from tests.pipelines.inputs.test_sidecar import config, jsons
from tests.support.videos import moving, write_video


def read(folder: Path, data: str | bytes, name: str = "about.csv", **settings: object) -> list[dict[str, object]]:
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    return read_sidecar(str(folder / name), SidecarConfig.model_validate(settings)).to_pylist()


def test_values_of_csv_stay_as_they_were_written(tmp_path: Path) -> None:
    text = 'path,no,title,empty\na.mp4,00123,NA,\nb.mp4,1e5,"null ",""\nc.mp4, 7,"5"" disk\r\nof ""a"", b",x\n'
    assert [list(row.values())[1:] for row in read(tmp_path, text)] == [
        ["00123", "NA", ""],
        ["1e5", "null ", ""],
        [" 7", '5" disk\r\nof "a", b', "x"],
    ]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_csv_of_spreadsheets_is_read(tmp_path: Path, mark: bytes, separator: str, newline: str) -> None:
    lines = [["path", "title"], ["a.mp4", "x" if separator == "," else "x, y"], ["b.mp4", "é"]]
    text = newline.join(separator.join(line) for line in lines)
    rows = read(tmp_path, mark + text.encode())
    assert [list(row.values()) for row in rows] == lines[1:]


def test_values_of_many_lines_and_megabytes_are_read(tmp_path: Path) -> None:
    long = "line\n" * 500_000
    rows = read(tmp_path, f'path,text\na.mp4,"{long}"\n' + "".join(f'{n}.mp4,"one\ntwo"\n' for n in range(9000)))
    assert rows[0]["text"] == long and len(rows) == 9001


def test_a_type_that_is_named_is_kept_and_its_mistakes_are_told_with_the_line(tmp_path: Path) -> None:
    types = {"year": "int", "score": "float", "free": "bool"}
    rows = read(tmp_path, "path,year,score,free,no\na,01999,0.5,True,01\nb,,nan,false,\n", types=types)
    assert rows == [
        {"path": "a", "year": 1999, "score": 0.5, "free": True, "no": "01"},
        {"path": "b", "year": None, "score": None, "free": False, "no": ""},
    ]
    for column, value in (("year", "1_000"), ("year", "9" * 20), ("score", "much"), ("free", "1")):
        with pytest.raises(ValueError, match=f"line 3, column {column}: got '{value}', expected {types[column]}"):
            read(tmp_path, f"path,{column}\na,\nb,{value}\n", types={column: types[column]})
    with pytest.raises(ValueError, match=r"no column yaer; it has path, year"):
        read(tmp_path, "path,year\n", types={"yaer": "int"})
    assert load_config(overrides=["sidecar.types.year=int"]).sidecar.types == {"year": "int"}


def test_another_encoding_is_told_with_its_line_and_read_when_it_is_named(tmp_path: Path) -> None:
    data = "path,title\na.mp4,Elk\nb.mp4,Café\n".encode("latin-1")
    with pytest.raises(ValueError, match=r"about.csv, line 3: byte 0xe9 is not utf-8; .*sidecar.encoding=latin-1"):
        read(tmp_path, data)
    assert read(tmp_path, data, encoding="latin-1")[1]["title"] == "Café"
    assert read(tmp_path, "path,title\na.mp4,Café\n".encode("utf-16"))[0]["title"] == "Café"
    with pytest.raises(ValueError, match="Python knows no such encoding"):
        read(tmp_path, data, encoding="latin-one")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,title\na,x\nb,y,z\n", "line 3: got 3 values, and the header has 2"),
        ('path,title\na,"x\ny"\nb\n', "line 4: got 1 values"),
        ("path,title,title\na,x,y\n", "line 1: the column 'title' is there more than once"),
        ('path,title\na,"x"y\n', "line 2: is no CSV"),
        ('path,title\na,x\nb,"y\n', "line 3: is no CSV"),
        ("path,title\n,x\n", "row 1 has no `path`"),
        ("path,title\na/b,x\n./a//b,y\n", "'a/b' and './a//b', which are one path, stands in more than one row"),
        ("", "expected one named `path`"),
    ],
)
def test_a_csv_that_says_no_one_thing_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text)


def test_jsonl_keeps_its_types(tmp_path: Path) -> None:
    row = {"path": "a.mp4", "no": 2**63, "free": True, "tags": ["x", "y"], "by": {"name": "é", "age": 1}, "score": 0.5}
    text = json.dumps(row) + "\n\n" + '{"path": "b.mp4", "score": NaN, "tags": []}\r\n'
    nothing = dict.fromkeys(row)
    assert read(tmp_path, text, "about.jsonl") == [row, {**nothing, "path": "b.mp4", "tags": []}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"path": "a"}\n{"path": "b"\n', "line 2: is no JSON object"),
        ('{"path": "a"}\n["b"]\n', "line 2: got list, expected an object"),
        ('{"path": "a", "n": 1, "n": 2}\n', "line 1: is no JSON object .*'n' stands in it more than once"),
        ('{"path": "a", "n": 1}\n{"path": "b", "n": "x"}\n', "line 2, column n: got 'x'"),
        ('{"path": "a", "n": 1}\n{"path": "b", "n": 1' + "0" * 30 + "}\n", "line 2, column n: got 10000"),
        ('{"path": "a", "n": Infinity}\n', "column n: got inf"),
        ('{"path": 3}\n', "column `path` is int64, expected text"),
    ],
)
def test_a_jsonl_that_does_not_go_together_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text, "about.jsonl")


def test_numbers_that_are_none_are_null_in_samples_and_tables(tmp_path: Path) -> None:
    write_video(tmp_path / "films" / "a.mp4", moving(1, 1.2))
    nested = pa.array([[1.0, float("nan")]])
    table = pa.table({"path": ["a.mp4"], "score": [float("nan")], "more": nested, "year": pa.array([7], pa.int16())})
    pq.write_table(table, tmp_path / "about.parquet")
    out = tmp_path / "dataset"
    curate([str(tmp_path / "films")], str(out), config(), sidecar=str(tmp_path / "about.parquet"))
    expected = {"score": None, "more": [1.0, None], "year": 7}
    assert [facts["sidecar"] for facts in jsons(out)] == [expected]
    (row,) = pq.read_table(out / "shards/index.parquet").to_pylist()
    assert {name: row[name] for name in expected} == expected
    assert pq.read_schema(out / "clips.parquet").field("year").type == pa.int16()
