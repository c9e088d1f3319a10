"""Inputs and datasets on an object store: a real S3 API, served on this machine."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pytest
import torch

from curate.dataset.dataset import Dataset
from curate.dataset.store import Table, write_parquet
from curate.dataset.versions import versions
from curate.media.fetch import local_copy
from curate.media.staging import StagingConfig
from curate.schema import FailureKind, MediaError
from curate.shards.tar import TarReader, list_members, write_tar
from curate.storage.lease import Occupied, hold
from curate.storage.place import path_of
from curate.storage.publish import publish
from pipelines.config import load_config
from pipelines.drivers.curate import curate
from pipelines.drivers.forget import forget, plan_forget
from pipelines.inputs.listing import list_sources
from pipelines.inspection.verify import verify
from tests.support.latents import smooth_clips, write_dataset
from tests.support.object_store import serve_s3
from tests.support.snapshot import differences, snapshot
from tests.support.videos import moving, write_video
from train.loop import train
from train.monitor.metrics import read_metrics
from train.run.checkpoint import list_checkpoints
from train.run.config import TrainConfig
from train.run.folder import load_model

SCHEMA = pa.schema([("id", pa.string()), ("value", pa.int64())])


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    with serve_s3() as env:
        yield env


@pytest.fixture
def bucket(server: dict[str, str], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of an empty bucket."""
    for variable, value in server.items():
        monkeypatch.setenv(variable, value)
    fs = fsspec.filesystem("s3", skip_instance_cache=True)
    name = request.node.name.replace("_", "-")[:63].rstrip("-")
    fs.mkdir(name)
    yield f"s3://{name}"
    fsspec.get_filesystem_class("s3").clear_instance_cache()


def names(url: str) -> list[str]:
    fs, path = fsspec.core.url_to_fs(url)
    fs.invalidate_cache()
    return sorted(name.removeprefix(f"{path}/") for name in fs.find(path))


def test_a_table_keeps_the_last_row_of_each_key(bucket: str) -> None:
    for value in (1, 2):
        Table(f"{bucket}/t", SCHEMA, ["id"]).publish(
            [{"id": "a", "value": value}, {"id": f"only {value}", "value": 0}]
        )
    table = Table(f"{bucket}/t", SCHEMA, ["id"])
    rows = [{"id": "a", "value": 2}, {"id": "only 1", "value": 0}, {"id": "only 2", "value": 0}]
    assert table.rows() == rows
    table.compact(max_parts=1)
    assert len(names(bucket)) == 1
    assert table.rows() == rows


def test_a_table_may_have_more_parts_than_one_page_of_a_listing(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "7")
    table = Table(f"{bucket}/t", SCHEMA, ["id"])
    for value in range(30):
        table.publish([{"id": str(value % 20), "value": value}])
    other = Table(f"{bucket}/t", SCHEMA, ["id"])
    other.publish([{"id": "9", "value": 99}])
    assert other.rows()[-1] == {"id": "9", "value": 99}
    assert sum(row["value"] for row in other.rows()) == sum(range(10, 30)) - 29 + 99


def test_what_fails_half_way_is_not_there(bucket: str) -> None:
    for size in (10, 80 * 2**20):  # less and more than one part of an upload
        with pytest.raises(RuntimeError), publish(f"{bucket}/half") as file:
            file.write(bytes(size))
            raise RuntimeError
        del file
        assert names(bucket) == []
    write_parquet(f"{bucket}/whole", pa.table({"id": ["a"]}))
    assert names(bucket) == ["whole"]


def test_a_shard_is_read_by_offset(bucket: str) -> None:
    samples = [(f"clip{number}", {"mp4": bytes([number]) * 1000, "json": b"{}"}) for number in range(20)]
    members = write_tar(f"{bucket}/shards/train-000000.tar", samples)
    reader = TarReader(f"{bucket}/shards")
    for number, member in enumerate(member for member in members if member.ext == "mp4"):
        assert (
            reader.read(member.shard, member.offset, member.size, key=member.key, digest=member.digest)
            == bytes([number]) * 1000
        )
    with fsspec.open(f"{bucket}/shards/train-000000.tar", "rb") as file:
        assert len(list_members(file)) == 40


def test_inputs_are_listed_with_versions_that_change_with_their_bytes(bucket: str) -> None:
    with fsspec.open(f"{bucket}/videos/a.mp4", "wb") as file:
        file.write(b"first")
    with fsspec.open(f"{bucket}/videos/deep/.hidden", "wb") as file:
        file.write(b"not listed")
    [before], failures = list_sources([f"{bucket}/videos", f"{bucket}/nowhere"])
    assert (before.uri, before.size_bytes) == (f"{bucket}/videos/a.mp4", 5)
    assert [(failure.subject, failure.kind) for failure in failures] == [(f"{bucket}/nowhere", FailureKind.MISSING)]
    with fsspec.open(before.uri, "wb") as file:
        file.write(b"other")
    [after], _ = list_sources([f"{bucket}/videos/*.mp4"])
    assert after.uri == before.uri and after.version != before.version


def test_a_copy_follows_its_object(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = StagingConfig(cache_dir=str(tmp_path))
    for data in (b"first", b"other"):
        with fsspec.open(f"{bucket}/a.mp4", "wb") as file:
            file.write(data)
        with local_copy(f"{bucket}/a.mp4", config) as path:
            assert Path(path).read_bytes() == data
    with pytest.raises(MediaError) as gone, local_copy(f"{bucket}/b.mp4", config):
        pass
    assert gone.value.kind is FailureKind.MISSING
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with pytest.raises(MediaError, match="credentials") as refused, local_copy(f"{bucket}/a.mp4", config):
        pass
    assert refused.value.kind is FailureKind.IO


def test_curating_from_bucket_to_bucket_is_curating_here(bucket: str, tmp_path: Path) -> None:
    shots = np.concatenate([moving(1, 1.5), moving(2, 1.5)])
    write_video(tmp_path / "videos/shots.mp4", shots)
    (tmp_path / "videos/copy.mp4").write_bytes((tmp_path / "videos/shots.mp4").read_bytes())
    (tmp_path / "videos/text.mp4").write_text("no video")
    write_video(tmp_path / "videos/other.mp4", moving(3, 1.5))
    fs, path = fsspec.core.url_to_fs(bucket)
    fs.put(f"{tmp_path}/videos", path, recursive=True)
    settings = [
        "scan.detector.kind=adaptive",
        "execute.executor=local",
        "score.scorers=null",
        f"execute.staging.cache_dir={tmp_path}/staged",
    ]
    here = curate([f"{tmp_path}/videos"], f"{tmp_path}/dataset", load_config(overrides=settings))
    there = curate([f"{bucket}/videos"], f"{bucket}/dataset", load_config(overrides=settings))
    assert there.num_indexed == here.num_indexed > 0
    again = curate([f"{bucket}/videos"], f"{bucket}/dataset", load_config(overrides=settings))
    assert (again.num_indexed, again.num_frames_decoded) == (here.num_indexed, 0)
    fs.invalidate_cache()
    fs.get(f"{path}/dataset", f"{tmp_path}/fetched", recursive=True)
    named_by_content = {"tables/clips", "tables/shards", "tables/shard_plans", "shards/index.parquet"}
    local, fetched = (
        {name: rows for name, rows in snapshot(folder).items() if name in named_by_content or name.endswith(".tar")}
        for folder in (tmp_path / "dataset", tmp_path / "fetched")
    )
    assert local.keys() > named_by_content
    assert differences(local, fetched) == []
    for name in ("videos", "failures"):
        rows = [_without_place(getattr(Dataset(url), name)) for url in (f"{tmp_path}/dataset", f"{bucket}/dataset")]
        assert rows[0] == rows[1] != []
    before = set(names(f"{bucket}/dataset/shards"))
    forget(f"{bucket}/dataset", plan_forget(f"{bucket}/dataset", ["shots.mp4"]).targets)
    index = Dataset(f"{bucket}/dataset").read_index().to_pylist()
    assert [row["clip_id"] for row in index] == [
        row["clip_id"]
        for row in Dataset(f"{tmp_path}/dataset").read_clips().to_pylist()
        if "other" in row["video_uri"]
    ]
    assert len(before & set(names(f"{bucket}/dataset/shards"))) == 1, "the tars have new names, the index its own"
    assert [problem for check in verify(f"{bucket}/dataset", None) for problem in check.problems] == []
    assert [one.num_clips for one in versions(Dataset(f"{bucket}/dataset"))] == [3, 1]


def test_a_dataset_in_a_bucket_has_one_writer(bucket: str) -> None:
    inside: list[str] = []

    def claim() -> None:
        with hold(f"{bucket}/dataset", "commit", wait_s=60) as lease:
            inside.append("in")
            lease._renew()
            lease.check()
            inside.append("out")

    threads = [threading.Thread(target=claim) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert inside == ["in", "out"] * 3
    with hold(f"{bucket}/dataset", "curate"), pytest.raises(Occupied, match=f"{bucket}/dataset is being written by"):
        with fsspec.open(f"{bucket}/a.mp4", "wb") as file:
            file.write(b"x")
        curate([f"{bucket}/a.mp4"], f"{bucket}/dataset", load_config(overrides=["execute.executor=local"]))
    assert [name for name in names(bucket) if "lease" in name] == []


def _without_place(table: Table) -> list[dict[str, Any]]:
    """Rows without what depends on where the inputs lie."""
    places = {"uri", "subject", "version", "detail", "retry_command"}
    rows = ({name: value for name, value in row.items() if name not in places} for row in table.rows())
    return sorted(rows, key=repr)


def test_training_from_a_bucket_is_training_from_here(bucket: str, tmp_path: Path) -> None:
    write_dataset(tmp_path / "dataset", smooth_clips(12, num_val=2))
    fsspec.filesystem("s3").put(str(tmp_path / "dataset"), f"{bucket}/dataset", recursive=True)
    losses = {}
    for name, dataset in (("here", str(tmp_path / "dataset")), ("there", f"{bucket}/dataset")):
        rows: list[dict[str, Any]] = []
        train(training(steps=3), dataset, tmp_path / name, on_step=rows.append)
        losses[name] = [row.get("loss", row.get("val_loss")) for row in rows]
    assert losses["here"] == losses["there"] and len(losses["here"]) >= 3


def training(**settings: Any) -> TrainConfig:
    """A small training that checkpoints every second step."""
    model = {"width": 32, "num_heads": 2, "depth": 1}
    tree: dict[str, Any] = {"device": "cpu", "model": model, "data": {"plan": {"token_budget": 128}}}
    tree |= {"checkpoint": {"every": 2}, "optimizer": {"schedule": "constant"}}
    return TrainConfig.model_validate(tree | {"evaluate": {"captions": {"every": 0}}} | settings)


def test_a_run_in_a_bucket_resumes_there_to_the_weights_of_one_here(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sync", lambda: pytest.fail("the disks of the machine are flushed"))
    dataset, run = str(tmp_path / "dataset"), f"{bucket}/run"
    write_dataset(tmp_path / "dataset", smooth_clips(12, num_val=2))
    train(training(steps=5), dataset, run)
    fsspec.filesystem("s3").pipe_file(f"{run}/checkpoints/step-000006/__0_0.distcp", b"half")  # as of a killed save
    summary = train(training(steps=8), dataset, run)
    train(training(steps=8), dataset, tmp_path / "run")
    assert [path.name for path in list_checkpoints(path_of(run) / "checkpoints")] == ["step-000006", "step-000008"]
    assert summary.checkpoint == f"{run}/checkpoints/step-000008"
    there, here = (load_model(path_of(place))[0].state_dict() for place in (run, str(tmp_path / "run")))
    assert all(torch.equal(there[name], here[name]) for name in here)
    assert [row["step"] for row in read_metrics(path_of(run) / "metrics.jsonl") if "loss" in row] == [*range(1, 9)]
    assert {"config.yaml", "run.json", "summary.json"} <= {*names(run)}
    assert any(name.startswith("tensorboard/") for name in names(run))
    assert [name for name in names(run) if "lease" in name or name.endswith(".tmp")] == []


def test_a_run_in_a_bucket_has_one_trainer_and_a_damaged_checkpoint_is_refused(bucket: str, tmp_path: Path) -> None:
    dataset, run = str(tmp_path / "dataset"), f"{bucket}/run"
    write_dataset(tmp_path / "dataset", smooth_clips(12, num_val=2))
    train(training(steps=4), dataset, run)
    with hold(run, "train"), pytest.raises(ValueError, match=f"{run} is being written by"):
        train(training(steps=6), dataset, run)
    fsspec.filesystem("s3").pipe_file(f"{run}/checkpoints/step-000004/__0_0.distcp", b"other bytes")
    with pytest.raises(ValueError, match=r"step-000004: cannot continue .* continue from step-000002, which is whole"):
        train(training(steps=6), dataset, run)
