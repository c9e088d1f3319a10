"""Inputs behind presigned URLs: fetched by the signature, recorded without it."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pyarrow.parquet as pq
import pytest

from curate.dataset.dataset import Dataset
from curate.schema import FailureKind
from pipelines.cli import main
from pipelines.config import load_config
from pipelines.drivers.curate import curate
from pipelines.inputs.listing import list_sources
from pipelines.inputs.sources import refuse_mistyped
from tests.support.scorers import only
from tests.support.videos import moving, write_video

SETTINGS = [
    "scan.detector.kind=adaptive",
    f"score.scorers={only(static_overlay={})}",
    "execute.executor=local",
    "select.rules.short_side_px.min=16",
]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """A server of one film that answers only to the signatures in `valid`."""
    write_video(tmp_path / "films" / "a.mp4", moving(1, 1.2))
    valid: set[str] = set()

    class Handler(SimpleHTTPRequestHandler):
        def send_head(self) -> object:
            signature = parse_qs(urlsplit(self.path).query).get("X-Amz-Signature", [""])[0]
            if signature in valid:
                return super().send_head()
            self.send_error(403)
            return None

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path / "films")))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    url = f"http://me:password@127.0.0.1:{server.server_address[1]}/a.mp4?version=3"
    yield SimpleNamespace(valid=valid, url=url, public=url.replace("me:password@", ""))
    server.shutdown()
    thread.join()
    server.server_close()


def everything(folder: Path) -> str:
    """What the files of a dataset say, also inside of Parquet."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    tables = [str(pq.read_table(path).to_pylist()) for path in files if path.suffix == ".parquet"]
    return "\n".join([*tables, *(path.read_bytes().decode("latin-1") for path in files)])


def test_a_signature_is_used_and_kept_nowhere_and_may_be_renewed(
    store: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, config = tmp_path / "dataset", load_config(overrides=SETTINGS)
    store.valid |= {"first0key", "second0key"}
    assert curate([f"{store.url}&X-Amz-Signature=first0key"], str(out), config).num_indexed == 1
    again = curate([f"{store.url}&X-Amz-Signature=second0key"], str(out), config)
    assert (again.num_indexed, again.num_frames_decoded) == (1, 0)
    assert [row["uri"] for row in Dataset(str(out)).videos.rows()] == [store.public]
    with pytest.raises(SystemExit):
        main(["report", str(out)])
    told = everything(out) + "".join(capsys.readouterr())
    assert store.public in told and "0key" not in told and "password" not in told


def test_a_signature_that_is_not_valid_is_not_told(
    store: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_video(tmp_path / "b.mp4", moving(2, 1.2))
    out, signed = str(tmp_path / "dataset"), f"{store.url}&X-Amz-Signature=last0key"
    options = [part for setting in SETTINGS for part in ("--set", setting)]
    for inputs in ([signed], [signed, str(tmp_path / "b.mp4")]):
        with pytest.raises(SystemExit):
            main(["curate", *inputs, "--out", out, *options])
    told = everything(tmp_path / "dataset") + "".join(capsys.readouterr())
    assert store.public in told and "0key" not in told and "password" not in told


@pytest.mark.parametrize("name", ["a.mp4", "a.mp4?X-Amz-Signature=old", "*.mp4", "b[ab].mp4"])
def test_what_the_server_says_is_told(store: SimpleNamespace, name: str) -> None:
    server = store.public.rpartition("/")[0]
    with pytest.raises(ValueError, match="the server answers 403; has its signature expired"):
        refuse_mistyped([f"{server}/{name}"])


@pytest.mark.parametrize("name", ["a.mp4", "*.mp4"])
def test_a_server_that_is_not_there_is_one_message(name: str) -> None:
    with pytest.raises(ValueError, match="Cannot connect"):
        refuse_mistyped([f"http://127.0.0.1:1/{name}"])


@pytest.mark.parametrize("name", ["a.mp4", "*.mp4", "a.mp4?X-Amz-Signature=old"])
def test_a_known_input_may_be_refused_or_without_its_server(store: SimpleNamespace, name: str) -> None:
    server = store.public.rpartition("/")[0]
    sources, failures = list_sources([f"{server}/{name}", f"http://127.0.0.1:1/{name}"])
    assert (len(sources), [failure.kind for failure in failures]) == (0, [FailureKind.MISSING] * 2)
