"""The user's own columns, from a file beside the videos to every clip, shard and index row."""

import io
import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.shards.tar import list_members
from pipelines.config import Config, load_config
from pipelines.drivers.curate import curate
from pipelines.drivers.select import select
from pipelines.inputs.sidecar import read_sidecar
from pipelines.inspection.explain import explain
from tests.support.videos import moving, write_video


def config(*settings: str) -> Config:
    return load_config(
        overrides=["scan.detector.kind=adaptive", "score.scorers=null", "execute.executor=local", *settings]
    )


@pytest.fixture
def films(tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    (folder / "north").mkdir(parents=True)
    write_video(folder / "north" / "a.mp4", moving(1, 2))
    write_video(folder / "b.mp4", moving(2, 2))
    return folder


def jsons(dataset: Path) -> list[dict[str, object]]:
    found = []
    for tar in sorted((dataset / "shards").glob("*.tar")):
        data = tar.read_bytes()
        found += [
            json.loads(data[at : at + n]) for name, at, n in list_members(io.BytesIO(data)) if name.endswith(".json")
        ]
    return found


def test_the_columns_are_carried_to_clips_index_and_samples(films: Path, tmp_path: Path) -> None:
    sidecar = tmp_path / "about.csv"
    sidecar.write_text("path,title,year\nnorth/a.mp4,Älg,1999\nnowhere.mp4,Lost,2000\n")
    out = tmp_path / "dataset"
    curate([str(films)], str(out), config(), sidecar=str(sidecar))
    for name in ("clips.parquet", "shards/index.parquet"):
        rows = pq.read_table(out / name).to_pylist()
        assert sorted((row["title"], row["year"]) for row in rows if row["title"]) == [("Älg", "1999")], name
        assert len(rows) == 2, name
    assert [facts["sidecar"] for facts in jsons(out) if "sidecar" in facts] == [{"title": "Älg", "year": "1999"}]


def test_a_run_without_the_file_keeps_the_columns_and_another_file_replaces_them(films: Path, tmp_path: Path) -> None:
    out = tmp_path / "dataset"
    (tmp_path / "about.jsonl").write_text('{"path": "b.mp4", "licence": "CC0"}\n')
    curate([str(films)], str(out), config(), sidecar=str(tmp_path / "about.jsonl"))
    again = curate([str(films)], str(out), config())
    assert "CC0" in pq.read_table(out / "clips.parquet")["licence"].to_pylist()
    pq.write_table(pa.table({"path": ["a.mp4"], "licence": ["MIT"]}), tmp_path / "other.parquet")
    curate([str(films)], str(out), config(), sidecar=str(tmp_path / "other.parquet"))
    assert pq.read_table(out / "clips.parquet")["licence"].to_pylist() == [None, "MIT"]
    assert again.num_frames_decoded == 0


def test_inputs_of_earlier_runs_keep_their_columns_where_another_file_does_not_name_them(tmp_path: Path) -> None:
    write_video(tmp_path / "A" / "1.mp4", moving(1, 1.2))
    write_video(tmp_path / "B" / "2.mp4", moving(2, 1.2))
    out, sidecar = tmp_path / "dataset", tmp_path / "about.csv"

    def about(folder: str, text: str, *settings: str) -> list[tuple[object, object]]:
        sidecar.write_text(text)
        curate([str(tmp_path / folder)], str(out), config(*settings), sidecar=str(sidecar))
        rows = pq.read_table(out / "clips.parquet").to_pylist()
        return [(row.get("licence"), row.get("year")) for row in rows]

    assert about("A", "path,licence\nA/1.mp4,CC0\n") == [("CC0", None)]
    assert about("B", "path,year\nB/2.mp4,1999\n") == [("CC0", None), (None, "1999")]
    assert about("B", "path,licence\nA/1.mp4,MIT\nB/2.mp4,CC-BY\n") == [("MIT", None), ("CC-BY", None)]
    with pytest.raises(ValueError, match="those of earlier inputs, which are kept"):
        about("B", "path,licence\nB/2.mp4,7\n", "sidecar.types.licence=int")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,title\na.mp4,x\n", "expected one named `path`"),
        ("path,width\na.mp4,3\n", "width are the dataset's own"),
        ("path,title\na.mp4,x\na.mp4,y\n", "'a.mp4' stands in more than one row"),
    ],
)
def test_a_file_that_cannot_be_joined_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "about.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_sidecar(str(tmp_path / "about.csv"))


def test_a_file_that_is_not_there_is_refused_before_any_work(films: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        curate([str(films)], str(tmp_path / "dataset"), config(), sidecar=str(tmp_path / "nowhere.csv"))


def test_a_row_is_of_one_file(tmp_path: Path) -> None:
    for number, folder in enumerate(("cc0", "stock")):
        write_video(tmp_path / folder / "001.mp4", moving(number, 1.2))
    sidecar, out = tmp_path / "about.csv", tmp_path / "dataset"

    def licences(text: str, *folders: str) -> list[object]:
        sidecar.write_text(text)
        curate([str(tmp_path / folder) for folder in folders], str(out), config(), sidecar=str(sidecar))
        rows = pq.read_table(out / "clips.parquet").to_pylist()
        return [row["licence"] for row in sorted(rows, key=lambda row: row["video_uri"])]

    with pytest.raises(ValueError, match=r"'001.mp4' is of 2 inputs.*cc0/001.mp4.*stock/001.mp4"):
        licences("path,licence\n001.mp4,CC0\n", "cc0", "stock")
    assert licences("path,licence\ncc0/001.mp4,CC0\n", "cc0", "stock") == ["CC0", None]
    # The input of this run is meant, and that of the earlier one keeps what it had.
    assert licences("path,licence\n001.mp4,bought\n", "stock") == ["CC0", "bought"]


@pytest.mark.parametrize("spelling", ["{}", "file://{}", "./north/a.mp4", "north//./a.mp4"])
def test_a_path_may_be_spelled_in_other_ways(films: Path, tmp_path: Path, spelling: str) -> None:
    uri = str(films / "north" / "a.mp4")
    (tmp_path / "about.csv").write_text(f"path,title\n{spelling.format(uri)},Elk\n")
    curate([str(films / "north")], str(tmp_path / "dataset"), config(), sidecar=str(tmp_path / "about.csv"))
    assert pq.read_table(tmp_path / "dataset" / "clips.parquet")["title"].to_pylist() == ["Elk"]


def test_letters_with_accents_are_one_however_they_are_composed(tmp_path: Path) -> None:
    write_video(tmp_path / "films" / "\u00e9t\u00e9.mp4", moving(1, 1.2))
    (tmp_path / "about.csv").write_text("path,title\ne\u0301te\u0301.mp4,summer\n")
    curate([str(tmp_path / "films")], str(tmp_path / "dataset"), config(), sidecar=str(tmp_path / "about.csv"))
    assert pq.read_table(tmp_path / "dataset" / "clips.parquet")["title"].to_pylist() == ["summer"]


def test_columns_that_come_after_the_cut_are_said_to_stand_in_the_index_alone(
    films: Path, tmp_path: Path, capsys
) -> None:
    sidecar, out = tmp_path / "about.csv", str(tmp_path / "dataset")
    told = []
    for text in ("path,title\nb.mp4,One\n", "path,title\nb.mp4,One\n", "path,title\nb.mp4,Two\n"):
        sidecar.write_text(text)
        curate([str(films)], out, config(), sidecar=str(sidecar))
        told.append("other columns for 1 inputs" in " ".join("".join(capsys.readouterr()).split()))
    assert told == [False, False, True]
    assert [facts["sidecar"] for facts in jsons(Path(out)) if "sidecar" in facts] == [{"title": "One"}]


def test_the_policy_judges_the_columns_and_explain_names_the_rule(films: Path, tmp_path: Path) -> None:
    (tmp_path / "about.jsonl").write_text(
        '{"path": "b.mp4", "licence": "none", "rating": 3}\n{"path": "north/a.mp4", "licence": "CC0", "rating": 9}\n'
    )
    out, rule = str(tmp_path / "dataset"), "select.rules.licence.in=[CC0, CC-BY]"
    made = curate([str(films)], out, config(rule), sidecar=str(tmp_path / "about.jsonl"))
    assert (made.funnel["keep"], made.funnel["reject:licence.in"]) == (1, 1)
    decoded = select(out, overrides=["select.rules.licence=null", "select.rules.rating.max=5"])
    assert (decoded.after["keep"], decoded.after["reject:rating.max"]) == (1, 1)
    rows = pq.read_table(tmp_path / "dataset" / "clips.parquet").to_pylist()
    (rejected,) = [row["clip_id"] for row in rows if row["decision"] == "reject"]
    (measure,) = [one for one in explain(out, rejected).measures if one.name == "rating"]
    assert (measure.value, measure.verdict, measure.margin, measure.family) == (9, "fails", -4, "sidecar")


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("select.rules.license.in=[CC0]", "select.rules.license: no column of that name; the nearest one is licence"),
        ("select.rules.licence.min=1", "min and max are for numbers, and the column holds text"),
        ("select.rules.nsfw.max=0.5", "no column of that name is computed: switch on score.scorers.nsfw"),
    ],
)
def test_a_rule_that_no_column_can_answer_is_refused_before_any_work(
    films: Path, tmp_path: Path, rule: str, said: str
) -> None:
    (tmp_path / "about.csv").write_text("path,licence\nb.mp4,CC0\n")
    with pytest.raises(ValueError, match=re.escape(said)):
        curate([str(films)], str(tmp_path / "dataset"), config(rule), sidecar=str(tmp_path / "about.csv"))
    assert not (tmp_path / "dataset").exists()
