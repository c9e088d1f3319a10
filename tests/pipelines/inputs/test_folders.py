"""Folders that other tools made: texts beside files, metadata files, what Hugging Face's `datasets` saves, tables."""

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.media.fetch import local_copy
from curate.media.staging import StagingConfig
from curate.schema import FailureKind
from pipelines.config import load_config
from pipelines.drivers.curate import curate
from pipelines.inputs.listing import Listing, list_inputs
from tests.support.tars import SETTINGS, jpg, mp4


def listed(*inputs: Path) -> tuple[Listing, list[str]]:
    left_out: list[str] = []
    return list_inputs([str(one) for one in inputs], leave_out=left_out.append), left_out


def own(listing: Listing) -> dict[str, dict[str, object]]:
    rows = [] if listing.own is None else listing.own.to_pylist()
    return {row.pop("uri").rpartition("/")[2]: row for row in rows}


def payloads(listing: Listing, cache: Path) -> list[bytes]:
    found = []
    for source in listing.sources:
        with local_copy(source.uri, StagingConfig(cache_dir=str(cache)), version=source.version) as path:
            found.append(Path(path).read_bytes())
    return found


def write(folder: Path, **files: bytes | str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        stem, _, ending = name.rpartition("_")
        (folder / f"{stem}.{ending}").write_bytes(data.encode() if isinstance(data, str) else data)
    return folder


def test_a_text_beside_a_file_is_its_caption(tmp_path: Path) -> None:
    told = json.dumps({"caption": "a dog", "fps": 12, "licence": "CC0"})
    folder = write(
        tmp_path / "in/deep", a_mp4=mp4(1), a_txt=" a dog \n", a_json=told, b_jpg=jpg(2), b_txt=b"\xff\xfe\xfd",
        c_jpg=jpg(3), c_json="words", README_txt="of no file", d_jpg=jpg(4), d_txt=mp4(5),
    )  # fmt: skip
    listing, left_out = listed(tmp_path / "in")
    assert [Path(source.uri).name for source in listing.sources] == ["a.mp4", "b.jpg", "c.jpg", "d.jpg"]
    assert own(listing) == {"a.mp4": {"caption": "a dog", "licence": "CC0", "own_fps": 12}}
    assert {Path(path).name for path in left_out} == {"README.txt", "c.json"}
    assert {(Path(one.subject).name, one.kind) for one in listing.failures} == {("b.txt", FailureKind.CORRUPT)}
    assert own(listed(folder / "*.mp4")[0]) == own(listing) == own(listed(folder / "a.mp4")[0])


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_metadata_file_tells_of_its_folder(tmp_path: Path, ending: str) -> None:
    folder = write(tmp_path / "in", a_mp4=mp4(1), b_jpg=jpg(2))
    rows = [{"file_name": "a.mp4", "text": "a clip", "licence": "CC0"}, {"file_name": "gone.mp4", "text": "no file"}]
    path = folder / f"metadata.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif ending == "jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    else:
        path.write_text("file_name,text,licence\na.mp4,a clip,CC0\ngone.mp4,no file,\n")
    listing, left_out = listed(tmp_path)
    assert [Path(source.uri).name for source in listing.sources] == ["a.mp4", "b.jpg"]
    assert own(listing) == {"a.mp4": {"caption": "a clip", "licence": "CC0"}}
    assert not left_out
    ((subject, kind),) = ((one.subject, one.kind) for one in listing.failures)
    assert subject.startswith(f"{path}, line ")
    assert kind is FailureKind.MISSING


def test_rows_of_a_saved_dataset_are_its_bytes_and_columns(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    pictures = [jpg(number) for number in range(5)]
    rows = {
        "image": [{"bytes": data, "path": None} for data in pictures],
        "text": [f"picture number {number}" for number in range(5)],
        "score": [number / 4 for number in range(5)],
    }
    features = datasets.Features(
        {"image": datasets.Image(), "text": datasets.Value("string"), "score": datasets.Value("float32")}
    )
    made = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": made.select(range(3)), "test": made.select([4, 3])}).save_to_disk(tmp_path / "hf")
    listing, _ = listed(tmp_path / "hf")
    assert sorted(payloads(listing, tmp_path)) == sorted(pictures)
    captions = [] if listing.own is None else listing.own["caption"].to_pylist()
    assert sorted(captions) == sorted(rows["text"])
    made.to_parquet(tmp_path / "rows.parquet", batch_size=2)
    listing, _ = listed(tmp_path / "rows.parquet")
    assert payloads(listing, tmp_path) == pictures
    assert listing.own is not None
    assert listing.own["score"].to_pylist() == rows["score"]


def test_rows_of_tables_are_curated(tmp_path: Path) -> None:
    rows = [
        {"video": {"bytes": mp4(1), "path": "a.mp4"}, "caption": "a clip in a row", "id": 1},
        {"video": {"bytes": None, "path": "b.jpg"}, "caption": "a picture beside the table", "id": 2},
        {"video": {"bytes": None, "path": "/dev/zero"}, "caption": "no file", "id": 3},
        {"video": None, "caption": "nothing", "id": 4},
    ]
    write(tmp_path / "in", b_jpg=jpg(2))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "in/0.parquet", row_group_size=1)
    pq.write_table(pa.table({"url": ["https://example.org"]}), tmp_path / "in/stats.parquet")
    assert listed(tmp_path / "in")[1] == [f"{tmp_path}/in/stats.parquet"]
    result = curate([f"{tmp_path}/in/0.parquet"], str(tmp_path / "out"), load_config(overrides=SETTINGS))
    assert (result.num_inputs, result.num_failed_inputs, result.num_indexed) == (4, 2, 2)
    assert {failure.kind for failure in result.failures} == {FailureKind.MISSING}
    index = pq.read_table(tmp_path / "out/shards/index.parquet").to_pylist()
    assert {row["caption_original"] for row in index} == {"a clip in a row", "a picture beside the table"}


def test_a_column_of_bytes_alone_is_media(tmp_path: Path) -> None:
    pq.write_table(pa.table({"jpg": [jpg(1), jpg(2)], "caption": ["a b", "c d"]}), tmp_path / "0.parquet")
    listing, _ = listed(tmp_path / "0.parquet")
    assert payloads(listing, tmp_path) == [jpg(1), jpg(2)]
    buffer = io.BytesIO((tmp_path / "0.parquet").read_bytes()[:-20])
    (tmp_path / "0.parquet").write_bytes(buffer.getvalue())
    assert {failure.kind for failure in listed(tmp_path / "0.parquet")[0].failures} == {FailureKind.CORRUPT}


@pytest.mark.parametrize("told", [b"{", b"[1]", b'{"info": null}', b'{"info": {"features": [1]}}'])
def test_a_table_whose_features_are_not_told_is_known_by_its_columns(tmp_path: Path, told: bytes) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array([{"bytes": jpg(1), "path": None}], kind)})
    pq.write_table(table.replace_schema_metadata({b"huggingface": told}), tmp_path / "a.parquet")
    listing = list_inputs([str(tmp_path / "a.parquet")])
    assert (len(listing.sources), listing.failures) == (1, [])
