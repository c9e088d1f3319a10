"""An export on the Hugging Face hub: a fake one on this machine."""

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest

from curate.export.config import layout_of
from pipelines.drivers.export import export
from tests.support.exportable import write_dataset
from tests.support.fake_hub import Hub, serve


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve() as (hub, address):
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", "hf_token")
        yield hub


@pytest.mark.parametrize("kind", ["webdataset", "hf", "energon"])
def test_the_folder_is_pushed_and_the_same_command_pushes_it_again(tmp_path: Path, hub: Hub, kind: str) -> None:
    url, out = write_dataset(tmp_path / "dataset", images=False), tmp_path / "out"
    export(url, str(out), layout_of(kind), push_to="hf://datasets/me/films")
    files = {f"me/films/{path.relative_to(out)}": path for path in out.rglob("*") if path.is_file()}
    assert hub.files == {name: path.read_bytes() for name, path in files.items()} and hub.private == {"me/films": True}
    times = {path: path.stat().st_mtime_ns for path in files.values()}
    hub.files.clear()
    export(url, str(out), layout_of(kind), push_to="me/films")
    assert hub.files.keys() == files.keys()
    assert {path: path.stat().st_mtime_ns for path in files.values()} == times


def test_a_hub_that_refuses_is_told_in_one_message_and_the_export_stays(tmp_path: Path, hub: Hub) -> None:
    hub.refuses = True
    url, out = write_dataset(tmp_path / "dataset", images=False), tmp_path / "out"
    with pytest.raises(ValueError, match=r"--push me/films: http://127.* did not take it \(.*403.*export is complete"):
        export(url, str(out), push_to="me/films")
    assert (out / "dataset.json").is_file()


def test_without_a_network_it_is_told_in_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    url = write_dataset(tmp_path / "dataset", images=False)
    with pytest.raises(ValueError, match=r"--push me/films: http://127.0.0.1:9 did not take it") as raised:
        export(url, str(tmp_path / "out"), push_to="me/films")
    assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match="--push uploads a local folder"):
        export(url, "memory://out", push_to="me/films")
