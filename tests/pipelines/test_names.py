"""Names of files and folders that look like patterns, URLs, homes or options: as inputs, datasets and outputs."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from curate.dataset.dataset import Dataset
from curate.shards.tar import TarReader, read_member
from pipelines.cli import main
from pipelines.config import load_config
from pipelines.drivers.curate import curate
from pipelines.drivers.encode import encode
from pipelines.drivers.export import export
from pipelines.drivers.select import select
from pipelines.inputs.listing import list_sources
from pipelines.inspection.status import status
from pipelines.inspection.verify import verify
from tests.support.curated import caption
from tests.support.scorers import only
from tests.support.videos import moving, write_video
from train.align.pooled import _find_family
from train.data.manifest import read_manifest

FILES = ["Show :: Part 1.mp4", "a::b.mp4", "a.mp4", "a.mp4::b.mp4", "#1.mp4", "50%20.mp4", "{x}.mp4", "~.mp4"]
FILES += ["~root.mp4", "-x.mp4", "back\\slash.mp4", "new\nline.mp4", "bang!.mp4", "spaces .mp4 ", "[1].mp4"]
FILES += ["*.mp4", "?.mp4"]
FOLDERS = ["[1]*?", "a::b", "s3:", "~", "#50%20{}", "-x", "back\\slash\nnew!", "spaces  "]
SETTINGS = [
    "scan.detector.kind=adaptive",
    f"score.scorers={only(static_overlay={})}",
    "execute.executor=local",
    "select.rules.short_side_px.min=16",
]
SETTINGS += ["encode.max_area_px=6144", "encode.autoencoder.device=cpu"]
CONFIG = load_config(overrides=SETTINGS)


def test_every_file_of_a_folder_is_an_input_of_its_own(tmp_path: Path) -> None:
    for seed, name in enumerate(FILES):
        write_video(tmp_path / "s3:" / name, moving(seed, 1.2))
    result = curate([str(tmp_path)], str(tmp_path / "out"), load_config(overrides=[*SETTINGS, "score.scorers=null"]))
    assert (result.num_inputs, result.num_failed_inputs, result.num_indexed) == (len(FILES), 0, len(FILES))
    videos = Dataset(str(tmp_path / "out")).videos.rows()
    assert {Path(row["uri"]).name for row in videos} == set(FILES)
    assert len({row["video_id"] for row in videos}) == len(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_an_input_by_its_own_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder[1]").mkdir()
    (tmp_path / "folder[1]" / name).write_bytes(b"x")
    (tmp_path / "folder[1]" / "another.mp4").write_bytes(b"x")
    monkeypatch.chdir(tmp_path / "folder[1]")
    for text in (name, str(tmp_path / "folder[1]" / name)):
        sources, failures = list_sources([text])
        assert ([source.uri for source in sources], failures) == ([str(tmp_path / "folder[1]" / name)], [])
    sources, _ = list_sources([f"{tmp_path}/folder[1]/an*.mp4"])
    assert [Path(source.uri).name for source in sources] == ["another.mp4"]


@pytest.mark.parametrize("name", FOLDERS)
def test_a_dataset_in_any_folder_is_whole(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    films, sidecar = tmp_path / name / "films", tmp_path / name / f"{name}.csv"
    write_video(films / "1.mp4", moving(1, 1.2))
    sidecar.write_text("path,title\n1.mp4,first\n")
    monkeypatch.chdir(tmp_path / name)
    out = f"{tmp_path}/{name}/{name}"
    assert curate(["films"], f"./{name}", CONFIG, sidecar=str(sidecar)).num_indexed == 1
    dataset = Dataset(out)
    before = dataset.read_clips()
    assert select(out).num_indexed == 1
    assert dataset.read_clips() == before and before["static_overlay"].null_count == 0
    assert select(out, overrides=["select.rules.static_overlay.max=1"]).num_indexed == 1
    assert [problem for check in verify(out, None) for problem in check.problems] == []
    assert [len(found) for found in (status(out).scored, status(out).failures)] == [1, 0]
    [row] = dataset.read_index().to_pylist()
    assert row["title"] == "first" and len(read_member(TarReader(dataset.layout.shards), row)) == row["size"]
    assert export(out, f"{tmp_path}/{name}/export {name}")[0] == 1
    assert (tmp_path / name / f"export {name}" / "train-000000.tar").is_file()
    assert curate(["films"], out, CONFIG).num_frames_decoded == 0


def test_training_finds_what_lies_in_a_folder_with_a_pattern_for_a_name(tmp_path: Path) -> None:
    write_video(tmp_path / "films/1.mp4", moving(1, 1.2))
    out = f"{tmp_path}/[1]*?"
    curate([f"{tmp_path}/films"], out, CONFIG)
    caption(Dataset(out))
    encode(out, CONFIG)
    assert len(read_manifest(out, split="train", patch=(1, 2, 2))) == 1
    scores = Path(out) / "tables/scores/embedding-1"
    scores.mkdir()
    pq.write_table(Dataset(out).read_clips().select(["clip_id"]), scores / "part-000000-0.parquet")
    assert _find_family(out, "auto") == "embedding-1"
    with pytest.raises(SystemExit) as stopped:
        main(["report", out])
    assert stopped.value.code == 0 and (Path(out) / "report/index.html").is_file()
    assert json.loads((next(Path(out, "latents").iterdir()) / "fingerprint.json").read_text())
