"""Every frame of a long clip is encoded: windows in the index, in the tars and in training."""

import json
import shutil
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from curate.dataset.sources import SOURCE
from pipelines.config import load_config
from pipelines.drivers.encode import EncodeSummary, encode
from pipelines.drivers.export import Choice, export
from pipelines.inspection.explain import explain
from pipelines.inspection.status import status
from pipelines.inspection.vacuum import orphans
from pipelines.inspection.verify import verify
from pipelines.steps import encode as step
from tests.support.curated import caption, copied, curated
from train.data.check import problems
from train.data.encode import encoder
from train.data.manifest import Manifest, read_manifest
from train.data.read import ClipReader
from train.data.sample import sample_scalars
from train.distributed.ranks import RankGrid

PATCH = (1, 2, 2)
SETTINGS = [
    "execute.executor=local",
    "encode.max_area_px=1024",
    "encode.max_frames=9",
    "encode.autoencoder.device=cpu",
]
STARTS = {30: [0, 7, 14, 21], 18: [0, 9]}
"""Frames of a clip → starts of its windows of 9 frames."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    made = curated(tmp_path_factory.mktemp("windows"))
    caption(made.dataset)
    made.summary = encode(made.url, load_config(overrides=SETTINGS))
    made.stored = made.summary.latents
    return made


def index_of(made: SimpleNamespace, latents: str) -> list[dict]:
    return made.dataset.encoded_index("latents", latents).to_pylist()


def manifest(made: SimpleNamespace, latents: str) -> Manifest:
    return read_manifest(made.url, split="train", patch=PATCH, latents=latents)


def tensors(made: SimpleNamespace, latents: str) -> dict[tuple[str, int], torch.Tensor]:
    rows = manifest(made, latents)
    reader = ClipReader(rows, PATCH)
    return {(row["clip_id"], row["window"]): reader.latent(row) for row in map(rows.row, range(len(rows)))}


def again(made: SimpleNamespace, *settings: str) -> EncodeSummary:
    return encode(made.url, load_config(overrides=[*SETTINGS, *settings]))


def test_a_long_clip_has_a_row_for_each_window(made: SimpleNamespace) -> None:
    rows = index_of(made, made.stored)
    assert (made.summary.num_clips, made.summary.num_windows, len(rows)) == (2, 6, 6)
    for num_frames, starts in STARTS.items():
        of_clip = [row for row in rows if row["clip_frames"] == num_frames]
        assert [(row["window"], row["start_frame"]) for row in of_clip] == list(enumerate(starts))
        assert {(row["num_frames"], row["latent_t"]) for row in of_clip} == {(9, 3)}
    assert [problem for check in verify(made.url) for problem in check.problems] == []
    assert status(made.url).encoded[made.stored] == 2
    assert [len(found) for found in explain(made.url, rows[0]["clip_id"]).latents.values()] == [
        sum(row["clip_id"] == rows[0]["clip_id"] for row in rows)
    ]


def test_a_window_is_a_sample_with_the_captions_of_its_clip(made: SimpleNamespace) -> None:
    found = manifest(made, made.stored)
    assert len(found) == 6 and len(set(found.keys.tolist())) == 6
    assert list(problems(found, PATCH, RankGrid(rank=0, world_size=1, device=torch.device("cpu")))) == []
    reader = ClipReader(found, PATCH)
    rows = [found.row(row) for row in range(len(found))]
    assert all(list(reader.captions(row)) == ["short"] for row in rows)
    assert len({reader.latent(row).numpy().tobytes() for row in rows}) == 6
    lengths = [sample_scalars({**row, "num_frames": 60.0}, ["num_frames"])["num_frames"] for row in rows]
    assert lengths == pytest.approx([60 * row["part"] for row in rows]) and {round(x) for x in lengths} == {18, 30}


def test_training_encodes_the_windows_that_are_stored(made: SimpleNamespace, tmp_path: Path) -> None:
    made = copied(made, tmp_path)
    online = again(made, "encode.store=false")
    assert online.num_windows == 6 and online.latents != made.stored
    one, other = tensors(made, made.stored), tensors(made, online.latents)
    assert len(one) == 6 and one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_run_that_is_killed_and_run_again_gives_what_an_undisturbed_run_gives(
    made: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed, made = tensors(made, made.stored), copied(made, tmp_path)
    monkeypatch.setattr(step, "CLIPS_PER_SHARD", 1)
    write, written = step._write, []

    def killed(*given):
        if written:
            raise KeyboardInterrupt
        written.append(write(*given))
        return written[0]

    folder = made.out / "latents" / made.stored
    for path in [*folder.glob("*.tar"), *folder.glob("parts/*")]:
        path.unlink()
    monkeypatch.setattr(step, "_write", killed)
    with pytest.raises(KeyboardInterrupt):
        again(made)
    monkeypatch.setattr(step, "_write", write)
    assert 0 < made.dataset.encoded("latents", made.stored).read().num_rows < 6
    assert again(made).num_windows == 6
    resumed = tensors(made, made.stored)
    assert resumed.keys() == undisturbed.keys()
    assert all(torch.equal(resumed[key], undisturbed[key]) for key in resumed)
    before = sorted((path.name, path.stat().st_mtime_ns) for path in folder.glob("*.tar"))
    assert again(made).num_windows == 6  # nothing is left to do
    assert sorted((path.name, path.stat().st_mtime_ns) for path in folder.glob("*.tar")) == before
    assert not [orphan for orphan in orphans(made.url) if orphan.path.startswith("latents/")]


def test_windows_of_an_earlier_cut_are_replaced_and_those_beyond_are_gone(
    made: SimpleNamespace, tmp_path: Path
) -> None:
    expected, made = tensors(made, made.stored), copied(made, tmp_path)
    table = made.dataset.encoded("latents", made.stored)
    rows = table.rows()
    stale = [{**rows[0], SOURCE: "of another cut"}, {**rows[0], "window": 9, SOURCE: "of another cut"}]
    table.publish(stale)
    assert again(made).num_windows == 6
    found = tensors(made, made.stored)
    assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in found)


def test_an_export_has_a_member_for_each_window(made: SimpleNamespace, tmp_path: Path) -> None:
    export(made.url, str(tmp_path / "out"), choice=Choice(latents=made.stored))
    names = []
    for path in (tmp_path / "out").rglob("*.tar"):
        with tarfile.open(path) as tar:
            names += tar.getnames()
    extensions = sorted(name.partition(".")[2] for name in names if name.endswith("safetensors"))
    assert extensions == sorted(["safetensors"] * 2 + ["1.safetensors"] * 2 + ["2.safetensors", "3.safetensors"])


def test_latents_of_an_earlier_reelpack_stay_readable_and_whole(made: SimpleNamespace, tmp_path: Path) -> None:
    made = copied(made, tmp_path)
    folders = [again(made, "encode.windows=middle", *more).latents for more in ([], ["encode.store=false"])]
    expected = [tensors(made, name) for name in folders]
    for name in folders:
        folder = made.out / "latents" / name
        record = json.loads((folder / "fingerprint.json").read_text())
        del record["config"]["windows"]
        (folder / "fingerprint.json").write_text(json.dumps(record))
        for path in [folder / "index.parquet", *folder.glob("parts/*.parquet")]:
            pq.write_table(pq.read_table(path).drop_columns(["window", "start_frame", "clip_frames"]), path)
    encoder.cache_clear()
    for name, before in zip(folders, expected, strict=True):
        now = tensors(made, name)
        assert {window for _, window in now} == {0} and all(torch.equal(now[key], before[key]) for key in before)
    assert again(made, "encode.windows=middle").num_windows == 2  # its rows count
    table = made.dataset.encoded("latents", folders[0])
    assert table.read().num_rows == 2 and np.all(table.read()["window"].to_numpy() == 0)


def test_latents_that_a_new_default_leaves_behind_are_named(
    made: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    made = copied(made, tmp_path)
    shutil.rmtree(made.out / "latents")
    [before, same] = [again(made, "encode.windows=middle").latents for _ in range(2)]
    assert before == same and "encoded again" not in capsys.readouterr().err
    now = again(made).latents
    told = capsys.readouterr().err
    assert f"latents {before} have one window" in told and f"to {now}" in told and "encode.windows=middle" in told
    again(made)
    again(made, "encode.max_frames=5")
    assert "encoded again" not in capsys.readouterr().err
    with pytest.raises(
        ValueError, match=rf"{before} .*windows middle.*{now} .*windows all|{now} .*{before} "
    ) as refused:
        manifest(made, "auto")
    assert str(refused.value).count("frames encoded alone none") == 3
