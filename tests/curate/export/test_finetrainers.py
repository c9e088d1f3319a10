"""finetrainers reads an export by its own loader: `make readers` fetches it, without what trains.

It cannot be a requirement of the tests: it pins another version of ruff. Its module of data sets imports a class that
torchvision has removed, and asks `datasets` for frames in a way of before version 4; both are put in their place here.
"""

import json
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from curate.export.config import layout_of
from pipelines.drivers.export import export
from tests.support.exportable import clip_name, media, write_dataset

FOLDER = os.environ.get("REELPACK_READERS")
pytestmark = pytest.mark.skipif(FOLDER is None, reason="REELPACK_READERS is not set: make readers")


@pytest.fixture
def loader(monkeypatch: pytest.MonkeyPatch) -> Any:
    from curate.encoders import torchvision_cpu

    torchvision_cpu.repair()
    import torchvision.io

    monkeypatch.setattr(
        torchvision.io, "video_reader", SimpleNamespace(VideoReader=type("VideoReader", (), {})), False
    )
    for name in ("finetrainers", "finetrainers.data"):  # without their __init__, which imports the trainers
        package = ModuleType(name)
        package.__path__ = [f"{FOLDER}/{name.replace('.', '/')}"]
        monkeypatch.setitem(sys.modules, name, package)
    import finetrainers.data.dataset as loader

    return loader


def test_its_loader_gets_the_clips_that_the_training_file_names(
    tmp_path: Path, loader: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    out, found = tmp_path / "out", {}
    export(write_dataset(tmp_path / "dataset"), str(out), layout_of("finetrainers"))
    for settings in json.loads((out / "training.json").read_text())["datasets"]:
        kind = settings["dataset_type"]
        opened = loader._initialize_local_dataset(settings["data_root"], kind)
        assert type(opened).__name__ == f"{kind.title()}FolderDataset"
        feature = datasets.Video(decode=False) if kind == "video" else datasets.Image(decode=False)
        opened._data = opened._data.cast_column(kind, feature)
        found |= {Path(row[kind]["path"]).stem: (row[kind], row["caption"]) for row in opened}
    assert found.keys() == {clip_name(number) for number in range(7)}
    for number in range(7):
        stored, caption = found[clip_name(number)]
        assert (stored["bytes"] or Path(stored["path"]).read_bytes()) == media(number)[1]
        assert caption == ("short 6" if number == 6 else "")
