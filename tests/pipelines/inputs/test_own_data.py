"""Other people's data through the whole pipeline: mixed, from a store, on Ray, trained with its text, out and in."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pyarrow.parquet as pq
import pytest

from curate.dataset.dataset import Dataset
from curate.export.config import layout_of
from curate.schema import FailureKind
from pipelines.config import Config, load_config
from pipelines.drivers.curate import curate
from pipelines.drivers.encode import encode
from pipelines.drivers.export import export
from pipelines.inputs.listing import list_inputs
from pipelines.inputs.sources import refuse_mistyped
from pipelines.inspection.status import status
from tests.support.object_store import serve_s3
from tests.support.snapshot import differences, snapshot
from tests.support.tars import SETTINGS, clip, pair, write_members
from tests.support.videos import moving, write_video
from train.loop import train
from train.monitor.metrics import read_metrics

TEXTS = {"a picture of squares, number 1", "a picture of squares, number 2", "a sliding picture of squares, number 3"}


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    write_members(tmp_path / "in/00000.tar", [*pair("0", 1, licence="CC0"), *pair("1", 2, licence="CC0")])
    write_members(tmp_path / "in/00001.tar", clip("0", 3, licence="CC-BY"))
    return tmp_path / "in"


def config(*settings: str) -> Config:
    return load_config(overrides=[*SETTINGS, *settings])


def texts(out: Path | str) -> set[str]:
    return set(Dataset(str(out)).read_index()["caption_original"].to_pylist())


def test_pairs_of_images_and_clips_train_with_their_own_text(tars: Path, tmp_path: Path) -> None:
    out, small = str(tmp_path / "out"), {"width": 32, "depth": 1, "num_heads": 2, "text": "cross_attention"}
    assert curate([str(tars)], out, config()).num_indexed == 3
    assert texts(out) == TEXTS
    assert status(out).next_command.startswith("reelpack encode"), "no captioner is needed"
    encode(out, config())
    settings = {"steps": 2, "model": small, "device": "cpu", "data": {"caption_dropout": 0.0}}
    train(Config.model_validate({"train": settings}).train, out, str(tmp_path / "run"))
    assert [row["step"] for row in read_metrics(tmp_path / "run/metrics.jsonl") if "loss" in row][-1] == 2


@pytest.mark.parametrize(
    "kind", ["webdataset", "folders", "hf", "parquet", "musubi", "diffusion-pipe", "finetrainers"]
)
def test_what_is_exported_is_an_input(tars: Path, tmp_path: Path, kind: str) -> None:
    out, exported, again = (str(tmp_path / name) for name in ("out", "exported", "again"))
    curate([str(tars)], out, config())
    assert export(out, exported, layout_of(kind, ()))[0] == 3
    result = curate([exported], again, config())
    assert (result.num_inputs, result.num_failed_inputs, result.num_indexed) == (3, 0, 3)
    assert texts(again) == TEXTS
    assert sorted(pq.read_table(f"{again}/clips.parquet")["kind"].to_pylist()) == ["image", "image", "video"]
    if kind not in ("musubi", "diffusion-pipe", "finetrainers"):
        assert sorted(Dataset(again).read_index()["licence"].to_pylist()) == ["CC-BY", "CC0", "CC0"]


@pytest.mark.ray
@pytest.mark.usefixtures("private_ray")
def test_members_and_stretches_are_curated_on_ray_as_in_this_process(tars: Path, tmp_path: Path) -> None:
    write_video(tars / "film.mp4", moving(7, 3))
    (tars / "list.csv").write_text("path,start,end,caption\nfilm.mp4,0,1,a first part\nfilm.mp4,1,2,another part\n")
    inputs, found = [f"{tars}/*.tar", f"{tars}/list.csv"], []
    for executor in ("local", "ray"):
        out = tmp_path / executor
        result = curate(inputs, str(out), config(f"execute.executor={executor}"))
        assert (result.num_inputs, result.num_failed_inputs, result.num_indexed) == (5, 0, 5)
        assert texts(out) == TEXTS | {"a first part", "another part"}
        found.append(snapshot(out))
    assert differences(*found) == []


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with serve_s3() as env:
        for variable, value in env.items():
            monkeypatch.setenv(variable, value)
        fsspec.filesystem("s3", skip_instance_cache=True).mkdir("tars")
        yield "s3://tars"


def test_tars_of_a_store_are_read_member_by_member(tars: Path, tmp_path: Path, bucket: str) -> None:
    fs = fsspec.filesystem("s3")
    for tar in tars.iterdir():
        fs.put_file(str(tar), f"tars/{tar.name}")
    staged = config(f"execute.staging.cache_dir={tmp_path}")
    result = curate([f"{bucket}/{{00000..00002}}.tar"], str(tmp_path / "out"), staged)
    assert (result.num_inputs, result.num_failed_inputs, result.num_indexed) == (4, 1, 3)
    assert texts(tmp_path / "out") == TEXTS
    copies = [path for folder in tmp_path.glob("reelpack-staging-*") for path in folder.glob("*.*") if path.suffix]
    assert {path.suffix for path in copies if len(path.stem) == 32} == {".jpg", ".mp4"}


class WithRanges(SimpleHTTPRequestHandler):
    """Files by HTTP, as object stores answer."""

    def do_GET(self) -> None:
        data, (first, last) = Path(self.translate_path(self.path)).read_bytes(), (0, None)
        if given := self.headers.get("Range"):
            first, last = (int(end) if end else None for end in given.removeprefix("bytes=").split("-"))
        part = data[first : None if last is None else last + 1]
        self.send_response(206 if given else 200)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Accept-Ranges", "bytes")
        if given:
            self.send_header("Content-Range", f"bytes {first}-{(first or 0) + len(part) - 1}/{len(data)}")
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *arguments: object) -> None:
        pass


class WithoutRanges(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(tars: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(request.param, directory=str(tars)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("server", [WithRanges], indirect=True)
def test_members_of_a_signed_tar_are_read_and_the_signature_is_not_kept(server: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = curate([f"{server}/00000.tar?X-Amz-Signature=0key"], str(out), config())
    assert (result.num_inputs, result.num_failed_inputs, result.num_indexed) == (2, 0, 2)
    rows = Dataset(str(out)).videos.rows()
    assert [row["uri"] for row in rows] == [f"{server}/00000.tar//{n}.jpg" for n in (0, 1)]
    assert not any(b"0key" in path.read_bytes() for path in out.rglob("*") if path.is_file())


@pytest.mark.parametrize("server", [WithoutRanges], indirect=True)
def test_a_server_without_ranges_is_a_typed_failure(server: str, tmp_path: Path) -> None:
    result = curate([f"{server}/00000.tar"], str(tmp_path / "out"), config())
    assert {(failure.subject, failure.kind) for failure in result.failures} == {
        (f"{server}/00000.tar//{n}.jpg", FailureKind.IO) for n in (0, 1)
    }
    assert all("answers no ranges" in failure.detail for failure in result.failures)


class Unreachable(fsspec.AbstractFileSystem):
    """A hub whose library raises errors of its own."""

    protocol = "unreachablehub"

    def _out_of_reach(self, *given: object, **named: object) -> None:
        raise RuntimeError("ConnectError: Name or service not known")

    info = exists = lexists = ls = isdir = glob = _open = cat_file = _out_of_reach  # type: ignore[assignment]


def test_a_hub_without_network_is_a_failure_and_the_rest_is_read(tars: Path, tmp_path: Path) -> None:
    fsspec.register_implementation("unreachablehub", Unreachable, clobber=True)
    (tars / "list.csv").write_text("path,caption\nunreachablehub://a/b.mp4,dead\n")
    hub = ["unreachablehub://a/0.tar", "unreachablehub://a/list.csv"]
    refuse_mistyped(hub)
    listing = list_inputs([*hub, str(tars), str(tars / "list.csv")], lists=["unreachablehub://a/more.csv"])
    assert len(listing.sources) == 3
    assert {failure.kind for failure in listing.failures} == {FailureKind.IO}
    unreached = {failure.subject for failure in listing.failures}
    assert unreached == {*hub, "unreachablehub://a/more.csv", f"{tars}/list.csv, line 2"}


@pytest.mark.filterwarnings("ignore")
def test_a_hub_that_is_offline_is_a_failure(tars: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    listing = list_inputs(["hf://datasets/nobody/nothing/0.tar", str(tars)])
    assert len(listing.sources) == 3
    ((subject, kind),) = ((failure.subject, failure.kind) for failure in listing.failures)
    assert subject.startswith("hf://datasets/nobody/nothing")
    assert kind in (FailureKind.IO, FailureKind.MISSING)
