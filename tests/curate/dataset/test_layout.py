"""Names of shards are read as they are written, and numbers are not used again."""

import re
from pathlib import Path

import pytest

from curate.dataset.dataset import Dataset
from curate.dataset.layout import Layout, is_shard, next_numbers, shard_name, shard_split
from curate.errors import NotADataset


def test_names_of_shards_are_read_as_they_are_written():
    name = shard_name("val", 7)
    assert (name, shard_split(name), is_shard(name)) == ("val-000007.tar", "val", True)
    assert not any(map(is_shard, ["index.parquet", ".train-000000.tar.1f.tmp", "a/train-000000.tar"]))


def test_new_shards_are_numbered_above_all_others():
    assert next_numbers([]) == {"train": 0, "val": 0}
    assert next_numbers(["train-000003.tar", "train-000001.tar"]) == {"train": 4, "val": 0}
    assert next_numbers([shard_name("train", 1_000_000)])["train"] == 1_000_001


def test_a_slash_at_the_end_of_a_url_changes_no_path():
    assert Layout("s3://bucket/set/").index == "s3://bucket/set/shards/index.parquet"
    assert Layout("set").encoded("latents", "ab") == Layout("set/").encoded("latents", "ab")
    assert Layout("set").encoded("text", "ab").fingerprint == "ab"


@pytest.mark.parametrize("url", ["", "/", "s3://", "file:///"])
def test_no_dataset_lies_at_a_root_or_below_an_empty_name(url: str) -> None:
    with pytest.raises(ValueError, match=f"got '{url}' as the folder of a dataset; expected a path"):
        Dataset(url)


@pytest.mark.parametrize(
    "files",
    [
        {"config.yaml": "steps: 1\n", "run.json": "{}"},
        {"config.yaml": "train_autoencoder: {steps: 1}\ndatasets: []\n"},
        {"config.yaml": "train_clip: {epochs: 1}\n"},
    ],
)
def test_a_run_is_no_dataset(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    for read in (Dataset(str(tmp_path)).made_with, Dataset(str(tmp_path)).read_index):
        with pytest.raises(NotADataset, match="holds a training run"):
            read()


def test_a_file_among_the_folders_of_latents_is_no_fingerprint(tmp_path: Path):
    (tmp_path / "latents/ab").mkdir(parents=True)
    (tmp_path / "latents/notes.txt").touch()
    assert Dataset(str(tmp_path)).fingerprints("latents") == ["ab"]
    assert Dataset(str(tmp_path)).fingerprints("text") == []


def test_no_other_module_spells_a_path_of_a_dataset():
    path = re.compile(r"\}/(shards|latents|text|tables|cache|clips\.parquet|index\.parquet|fingerprint\.json)\b")
    root = Path(__file__).parents[3]
    files = (
        file
        for package in ("curate", "caption", "train", "pipelines", "reelpack")
        for file in root.glob(f"{package}/**/*.py")
    )
    found = {str(file.relative_to(root)) for file in files if path.search(file.read_text())}
    assert found == {"curate/dataset/layout.py"}
