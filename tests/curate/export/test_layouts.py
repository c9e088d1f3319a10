"""What holds for every layout, and for one that is added as CONTRIBUTING.md says."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.main import get_command

import curate.export.config as family
from curate.export.base import File, Layout
from curate.export.folder import RECORD, UNFINISHED
from pipelines.cli import app
from pipelines.drivers.export import Choice, export
from tests.support.export_readers import READERS
from tests.support.exportable import NUM_CLIPS, clip_name, media, write_dataset
from tests.support.families import with_member

EXTENDED = with_member(
    family, "tests.support.members.csv_table", "CsvLayout", after="WebDatasetLayout,", line="CsvLayout,"
)
TO_LOAD = {"litdata"}
"""Kinds whose library takes seconds to import."""
KINDS = [pytest.param(kind, marks=pytest.mark.slow) if kind in TO_LOAD else kind for kind in EXTENDED.KINDS]
CAPTIONS = {clip_name(number): "" for number in range(6)} | {
    clip_name(6): "short 6",
    clip_name(7): "dense 7, é",
    clip_name(8): "short 8",
}


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


class Stopped(Exception):
    """As if the process was killed."""


def files(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def stopped_after(layout: Layout, num_files: int) -> Layout:
    """The layout, which stops while it writes a file."""

    class Stopping(type(layout)):  # type: ignore[misc]
        def files(self, source: object) -> Iterator[File]:
            def stop(url: str) -> None:
                raise Stopped

            for position, file in enumerate(layout.files(source)):  # type: ignore[arg-type]
                yield file if position < num_files else File(name=file.name, write=stop)

    return Stopping.model_validate(layout.model_dump())


def test_every_layout_has_a_reader_here() -> None:
    assert EXTENDED.KINDS.keys() == READERS.keys()


@pytest.mark.parametrize("images", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_its_reader_gets_the_bytes_and_the_caption_of_every_clip(tmp_path: Path, kind: str, images: bool) -> None:
    url, out = write_dataset(tmp_path / "dataset", images=images), tmp_path / "out é"
    assert export(url, str(out), EXTENDED.layout_of(kind)) == (NUM_CLIPS, 3)
    clips = {clip_name(number): media(number, images=images)[1] for number in range(NUM_CLIPS)}
    assert READERS[kind](out) == {name: (clips[name], CAPTIONS[name]) for name in clips}


@pytest.mark.parametrize("kind", KINDS)
def test_columns_of_the_user_hide_none_of_an_export(tmp_path: Path, kind: str) -> None:
    url, out = write_dataset(tmp_path / "dataset"), tmp_path / "out"
    index = tmp_path / "dataset/shards/index.parquet"
    table = pq.read_table(index)
    for name in ("caption", "media", "video", "image", "file_name", "row", "txt"):
        table = table.append_column(name, pa.array(["mine"] * table.num_rows))
    pq.write_table(table, index)
    export(url, str(out), EXTENDED.layout_of(kind))
    assert {name: caption for name, (_, caption) in READERS[kind](out).items()} == CAPTIONS


@pytest.mark.parametrize("kind", KINDS)
def test_a_chosen_level_alone_is_exported(tmp_path: Path, kind: str) -> None:
    url, out = write_dataset(tmp_path / "dataset"), tmp_path / "out"
    assert export(url, str(out), EXTENDED.layout_of(kind), Choice(level="dense", split="val")) == (2, 1)
    captions = {name: caption for name, (_, caption) in READERS[kind](out).items()}
    assert captions == {clip_name(7): "dense 7, é", clip_name(8): ""}


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_that_was_stopped_looks_not_whole_and_resumes(tmp_path: Path, kind: str) -> None:
    url, out = write_dataset(tmp_path / "dataset", images=False), tmp_path / "out"
    layout = EXTENDED.layout_of(kind)
    for num_files in (0, 1):
        with pytest.raises(Stopped):
            export(url, str(out), stopped_after(layout, num_files))
        assert {path.name for path in out.iterdir()} == {UNFINISHED}
    root = out / UNFINISHED / "files"
    written = {name: (root / name).stat().st_mtime_ns for name in files(root)}
    (root / ".clip.mp4.0.tmp").write_bytes(b"half a file")
    export(url, str(out), layout)
    assert not (out / UNFINISHED).exists()
    assert {name: (out / name).stat().st_mtime_ns for name in written} == written and written
    whole = tmp_path / "whole/out"
    export(url, str(whole), layout)
    assert files(out).keys() == files(whole).keys() and READERS[kind](out) == READERS[kind](whole)


@pytest.mark.parametrize("kind", KINDS)
def test_on_a_store_without_renames_a_mark_stays_until_all_is_there(tmp_path: Path, kind: str) -> None:
    url, store = write_dataset(tmp_path / "dataset", images=False), fsspec.filesystem("memory")
    out = f"/{tmp_path.name}-{kind}"
    with pytest.raises(Stopped):
        export(url, f"memory:/{out}", stopped_after(EXTENDED.layout_of(kind), 1))
    assert store.exists(f"{out}/{UNFINISHED}/plan.json") and not store.exists(f"{out}/{RECORD}")
    export(url, f"memory:/{out}", EXTENDED.layout_of(kind))
    assert not store.exists(f"{out}/{UNFINISHED}") and store.exists(f"{out}/README.md")
    export(url, str(tmp_path / "out"), EXTENDED.layout_of(kind))
    names = {path.removeprefix(f"{out}/") for path in store.find(out)}
    assert names == files(tmp_path / "out").keys()


@pytest.mark.parametrize("kind", KINDS)
def test_the_card_names_the_layout_the_counts_and_the_licences(tmp_path: Path, kind: str) -> None:
    url, out = write_dataset(tmp_path / "dataset"), tmp_path / "out"
    export(url, str(out), EXTENDED.layout_of(kind))
    text = (out / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    facts = yaml.safe_load(front)
    assert facts["task_categories"] == ["text-to-video", "text-to-image"] and facts["size_categories"] == ["n<1K"]
    for config in facts.get("configs", []):
        for entry in config["data_files"]:
            assert list(out.glob(entry["path"])), entry
    assert (
        f"`{kind}`" in body
        and "| train | 5 | 2 |" in body
        and "| validation" not in body
        and "| val | 1 | 1 |" in body
    )
    assert "| CC-BY\\|4 | 5 |" in body and "| CC0 | 4 |" in body and "| 64 × 48 | 9 |" in body
    assert str(tmp_path) not in body
    record = json.loads((out / RECORD).read_text())
    assert record["num_clips"] == NUM_CLIPS and record["layout"]["kind"] == kind and record["reelpack_version"]


def test_the_help_names_every_layout() -> None:
    [option] = [one for one in get_command(app).commands["export"].params if one.name == "to"]  # type: ignore[attr-defined]
    assert re.findall(r"[\w-]+", option.help.replace(" or ", " ")) == list(family.KINDS)


def test_a_layout_or_a_setting_that_is_not_there_is_told_with_the_nearest() -> None:
    with pytest.raises(
        ValueError, match=r"--to webdatset: no such layout; the nearest is webdataset; there are webd.*hf"
    ):
        family.layout_of("webdatset")
    with pytest.raises(ValueError, match=r"--set max_frame: .*the settings of musubi are resolution, max_frames"):
        family.layout_of("musubi", ["max_frame=3"])
    with pytest.raises(ValueError, match=r"--set max_frames: .*\(got 'x'\)"):
        family.layout_of("musubi", ["max_frames=x"])
    with pytest.raises(ValueError, match="hf has no settings"):
        family.layout_of("hf", ["a=1"])
    with pytest.raises(ValueError, match=r"--set max_frames=\[: no YAML"):
        family.layout_of("musubi", ["max_frames=["])
    assert family.layout_of("musubi", ["max_frames=49"]).model_dump()["max_frames"] == 49


def test_musubi_has_one_folder_for_each_frame_rate(tmp_path: Path) -> None:
    export(write_dataset(tmp_path / "dataset", images=False), str(tmp_path / "out"), family.layout_of("musubi"))
    assert {path.name for path in (tmp_path / "out/train").iterdir()} == {"videos_12fps", "videos_23.976fps"}
