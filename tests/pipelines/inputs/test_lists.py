"""Lists of inputs: a row is a file, or a stretch of a video to the frame; a row that is none is told by its line."""

import json
import socket
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.media.decode import decode_clip
from curate.schema import FailureKind
from curate.shards.tar import TarReader, read_member
from pipelines.cli import main
from pipelines.config import load_config
from pipelines.drivers.curate import curate
from pipelines.inputs.listing import Listing, list_inputs
from pipelines.inspection.explain import files_named
from tests.support.tars import SETTINGS, jpg
from tests.support.videos import FPS, moving, write_video


@pytest.fixture
def films(tmp_path: Path) -> Path:
    for seed in (1, 2):
        write_video(tmp_path / f"films/{seed}.mp4", moving(seed, 3))
    (tmp_path / "films/p.jpg").write_bytes(jpg(3))
    return tmp_path / "films"


def listed(path: Path, text: str | None = None, *settings: str) -> Listing:
    if text is not None:
        path.write_text(text)
    return list_inputs([str(path)], sidecar=load_config(overrides=list(settings)).sidecar)


def lines(listing: Listing) -> dict[str, FailureKind]:
    return {failure.subject.rpartition(", ")[2]: failure.kind for failure in listing.failures}


def test_each_row_is_a_clip_to_the_frame_with_its_own_text(films: Path, tmp_path: Path) -> None:
    rows = [
        ("1.mp4", 0.5, 1.5, "the first"), ("1.mp4", "00:00:01.000", "0:02.5", "the second overlaps it"),
        ("2.mp4", None, None, "a whole film"), ("p.jpg", None, None, "a still picture"),
    ]  # fmt: skip
    names = ("path", "start", "end", "caption")
    text = "".join(json.dumps(dict(zip(names, row, strict=True)) | {"licence": "CC0"}) + "\n" for row in rows)
    (films / "list.jsonl").write_text(text)
    out = tmp_path / "out"
    result = curate([str(films / "list.jsonl")], str(out), load_config(overrides=SETTINGS))
    assert (result.num_inputs, result.num_failed_inputs, result.num_indexed) == (4, 0, 4)
    clips = {row["clip_id"]: row for row in pq.read_table(out / "clips.parquet").to_pylist()}
    reader, found = TarReader(str(out / "shards")), {}
    for row in pq.read_table(out / "shards/index.parquet").to_pylist():
        found[row["caption_original"]] = (row, clips[row["clip_id"]], decode_clip(read_member(reader, row)).rgb)
    assert {row["licence"] for row, _, _ in found.values()} == {"CC0"}
    film = moving(1, 3)
    for text, first, end in (("the first", 6, 18), ("the second overlaps it", 12, 30)):
        _, clip, rgb = found[text]
        assert (clip["start_s"], clip["end_s"]) == (first / FPS, end / FPS)
        assert clip["transition_before"] == clip["transition_after"] == "gap"
        assert len(rgb) == end - first
        differences = [np.abs(rgb[0].astype(int) - film[n]).mean() for n in range(len(film))]
        assert int(np.argmin(differences)) == first
    assert found["a whole film"][0]["num_frames"] == 36
    assert found["a still picture"][0]["kind"] == "image"
    stretches = files_named(str(out), str(films / "1.mp4"))
    assert [len(story.clips) for story in stretches] == [1, 1], "a file is explained by its stretches"


def test_a_stretch_has_the_clip_id_of_the_same_span_of_a_list_of_shots(films: Path, tmp_path: Path) -> None:
    (films / "rows.csv").write_text("path,start,end\n1.mp4,0.5,1.5\n")
    curate([str(films / "rows.csv")], str(tmp_path / "a"), load_config(overrides=SETTINGS))
    spans = [*SETTINGS[1:], f"scan.detector={{kind: spans, path: {films}/rows.csv}}"]
    curate([str(films / "1.mp4")], str(tmp_path / "b"), load_config(overrides=spans))
    one, other = (pq.read_table(tmp_path / name / "clips.parquet")["clip_id"].to_pylist() for name in "ab")
    assert one == other != []


def test_what_is_wrong_with_a_row_is_told_by_its_line_and_the_rest_is_read(films: Path) -> None:
    listing = listed(
        films / "list.csv",
        "path,start,end,caption\n"
        "1.mp4,0,1,fine\n"
        "gone.mp4,,,dead\n"
        "1.mp4,2,1,backwards\n"
        "1.mp4,-1,1,negative\n"
        "1.mp4,1,,half\n"
        "1.mp4,nan,nan,words for times\n"
        "1.mp4,soon,later,words for times\n"
        ",0,1,no file\n"
        "1.mp4,0,1,the same again\n"
        "1.mp4,0\n"
        "2.mp4,,,a whole film\n",
    )
    assert [source.uri.rpartition("/films/")[2] for source in listing.sources] == ["1.mp4//t=0,1", "2.mp4"]
    assert lines(listing) == {
        "line 3": FailureKind.MISSING,
        "line 4": FailureKind.SPANS,
        "line 5": FailureKind.SPANS,
        "line 6": FailureKind.SPANS,
        "line 7": FailureKind.SPANS,
        "line 8": FailureKind.SPANS,
        "line 9": FailureKind.NOT_MEDIA,
        "line 10": FailureKind.DUPLICATE,
        "line 11": FailureKind.CORRUPT,
    }
    duplicate = next(failure for failure in listing.failures if failure.kind is FailureKind.DUPLICATE)
    assert "list.csv, line 2" in duplicate.detail


def test_a_row_with_several_stretches_is_one_for_each_with_its_text(films: Path) -> None:
    listing = listed(
        films / "panda.csv",
        "videoID,path,timestamp,caption,score\n"
        """x,1.mp4,"[['0:00:00.000', '0:00:01.500'], ['0:00:02.000', '3']]","['a first, part', 'then']","[1, 2]"\n"""
        'y,2.mp4,"[0, 1.5]",one text,3\n'
        """z,2.mp4,"[['0', '1'], ['1']]","['one', 'two']",\n"""
        """z,2.mp4,"[['0', '1']]","['one', 'two']",\n"""
        """z,2.mp4,"[__import__('os')]",words,\n""",
        "sidecar.types.score=text",
    )
    assert listing.own is not None
    found = {row["uri"].rpartition("/films/")[2]: (row["caption"], row["score"]) for row in listing.own.to_pylist()}
    assert found == {
        "1.mp4//t=0:00:00.000,0:00:01.500": ("a first, part", "1"),
        "1.mp4//t=0:00:02.000,3": ("then", "2"),
        "2.mp4//t=0,1.5": ("one text", "3"),
        "2.mp4//t=0,1": ("one", None),
    }
    wrong = {failure.subject.partition(", ")[2]: failure.kind for failure in listing.failures}
    assert wrong == {
        "line 4, stretch 2": FailureKind.SPANS,
        "line 5": FailureKind.CORRUPT,
        "line 6": FailureKind.SPANS,
    }


def test_times_past_the_end_are_a_failure_of_the_row(films: Path, tmp_path: Path) -> None:
    (films / "list.csv").write_text("path,first_frame,end_frame\n1.mp4,30,99\n1.mp4,0,12\np.jpg,0,1\n")
    result = curate([str(films / "list.csv")], str(tmp_path / "out"), load_config(overrides=SETTINGS))
    assert (result.num_inputs, result.num_failed_inputs, result.num_indexed) == (3, 2, 1)
    kinds = {failure.detail.partition(": ")[0].rpartition(", ")[2]: failure.kind for failure in result.failures}
    assert kinds == {"line 2": FailureKind.SPANS, "line 4": FailureKind.SPANS}
    (films / "list.csv").write_text("path,first_frame,end_frame\n1.mp4,30,36\n1.mp4,0,12\n")
    again = curate([str(films / "list.csv")], str(tmp_path / "out"), load_config(overrides=SETTINGS))
    assert again.num_indexed == 2
    assert again.num_frames_decoded < 36


@pytest.mark.parametrize("ending", ["csv", "jsonl", "json", "parquet", "txt"])
def test_a_list_may_be_of_any_form(films: Path, ending: str) -> None:
    rows = [{"path": "1.mp4", "score": 0.5}, {"path": str(films / "2.mp4"), "score": float("nan")}]
    path = films / f"list.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif ending == "csv":
        path.write_text("path,score\n" + "".join(f"{row['path']},{row['score']}\n" for row in rows))
    elif ending == "json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("".join((json.dumps(row) if ending == "jsonl" else row["path"]) + "\n" for row in rows))
    given = {"lists": [str(path)]} if ending == "txt" else {}
    sidecar = load_config(overrides=["sidecar.types.score=float"]).sidecar
    listing = list_inputs([] if given else [str(path)], sidecar=sidecar, **given)
    assert [Path(source.uri).name for source in listing.sources] == ["1.mp4", "2.mp4"]
    if ending == "txt":
        assert listing.own is None
    else:
        assert listing.own is not None
        assert listing.own["score"].to_pylist() == [0.5, None]


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("a.csv", "title,year\nx,1\n", FailureKind.NOT_MEDIA),
        ("a.csv", 'path\n"a.mp4\n', FailureKind.CORRUPT),
        ("a.json", '{"path": "a.mp4"}', FailureKind.CORRUPT),
        ("a.jsonl", "", FailureKind.NOT_MEDIA),
        ("a.parquet", "no table", FailureKind.CORRUPT),
    ],
)
def test_a_file_that_is_no_list_is_a_typed_failure(tmp_path: Path, name: str, text: str, kind: FailureKind) -> None:
    listing = listed(tmp_path / name, text)
    assert not listing.sources
    assert kind in {failure.kind for failure in listing.failures}


def test_a_list_is_given_by_its_option_and_retried_by_it(films: Path, tmp_path: Path, capsys) -> None:
    (films / "names.txt").write_text("1.mp4\ngone.mp4\n")
    out = str(tmp_path / "out")
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    with pytest.raises(SystemExit) as stopped:
        main(["curate", "--list", str(films / "names.txt"), "--out", out, *settings])
    assert stopped.value.code == 0
    assert "names.txt, line 2" in capsys.readouterr().out
    write_video(films / "gone.mp4", moving(5, 2))
    with pytest.raises(SystemExit) as stopped:
        main(["retry", out, "--executor", "local"])
    assert "1 succeeded now, 0 still fail" in capsys.readouterr().out


DEEP = "[" * 100_000 + "]" * 100_000


def test_json_that_is_nested_too_deeply_is_a_failure_of_its_row(films: Path) -> None:
    listing = listed(films / "list.jsonl", f'{{"path": "1.mp4", "a": {DEEP}}}\n{{"path": "2.mp4"}}\n')
    assert lines(listing) == {"line 1": FailureKind.CORRUPT}
    assert len(listing.sources) == 1
    assert [failure.kind for failure in listed(films / "list.json", DEEP).failures] == [FailureKind.CORRUPT]


def test_names_of_columns_that_are_no_text_are_kept_as_far_as_they_are(films: Path) -> None:
    listing = listed(films / "list.jsonl", json.dumps({"path": "1.mp4", "\ud800b": 1}))
    assert listing.own is not None
    assert listing.own.column_names == ["uri", "?b"]


def test_a_column_without_a_name_gets_one(films: Path) -> None:
    listing = listed(films / "list.csv", ",path\n7,1.mp4\n")
    assert listing.own is not None
    assert listing.own["unnamed"].to_pylist() == ["7"]


@pytest.mark.parametrize("kind", [pa.timestamp("ms"), pa.date32()])
def test_dates_and_times_that_python_cannot_hold_are_text(films: Path, kind: pa.DataType) -> None:
    number = pa.int32() if kind == pa.date32() else pa.int64()
    times = pa.array([2**30 if kind == pa.date32() else 2**50, 1, None], number).cast(kind)
    pq.write_table(pa.table({"path": ["1.mp4", "2.mp4", "p.jpg"], "when": times}), films / "list.parquet")
    listing = listed(films / "list.parquet")
    assert listing.own is not None
    assert not listing.failures
    assert [isinstance(value, str) for value in listing.own["when"].to_pylist()] == [True, True, False]


def test_a_server_out_of_reach_is_no_missing_file(films: Path) -> None:
    with socket.socket() as server:  # bound, and not listening
        server.bind(("127.0.0.1", 0))
        listing = listed(films / "list.csv", f"path\nhttp://127.0.0.1:{server.getsockname()[1]}/a.mp4\n2.mp4\n")
    assert lines(listing) == {"line 2": FailureKind.IO}
    assert "cannot be reached" in listing.failures[0].detail
