"""Class labels: from a column to the batch, to the record of the run, and to a sample."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from train.data.config import DataConfig
from train.data.load import PackLoader
from train.data.manifest import Manifest
from train.data.mix import read_datasets
from train.data.plan import PlannedSample
from train.loop import train
from train.model.dit_config import DiTConfig
from train.objective.config import FlowConfig
from train.objective.flow import RectifiedFlow
from train.run.config import TrainConfig
from train.run.folder import read_run
from train.sampling.config import SampleConfig
from train.sampling.request import Request, class_number
from train.sampling.sample import sample

GENRES = ["drama", "comedy", None, "action"]
MODEL = {"width": 32, "depth": 1, "num_heads": 2, "num_classes": 3, "text": "none"}


def labelled(dataset: str | Path, root: Path, values: list, name: str = "genre") -> str:
    """A copy whose index has a column of labels, in the order of clip ids."""
    shutil.copytree(dataset, root)
    path = root / "shards/index.parquet"
    table = pq.read_table(path).sort_by("clip_id")
    column = pa.array([values[i % len(values)] for i in range(table.num_rows)])
    pq.write_table(table.append_column(name, column), path)
    return str(root)


@pytest.fixture
def genres(dataset: str, tmp_path: Path) -> str:
    return labelled(dataset, tmp_path / "genres", GENRES)


def read(*datasets: str, num_classes: int | None = 3, split: str = "train", **data: Any) -> Manifest:
    model = DiTConfig.model_validate(MODEL | {"num_classes": num_classes})
    return read_datasets(datasets, split=split, data=DataConfig(label_column="genre", **data), model=model)


def names(manifest: Manifest) -> dict[str, str | None]:
    assert manifest.labels is not None
    rows = [manifest.row(i) for i in range(len(manifest))]
    return {row["clip_id"]: None if row["label"] is None else manifest.labels[row["label"]] for row in rows}


@pytest.mark.parametrize(("text", "together"), [("cross_attention", 0.2), ("none", 0.0)])
def test_captions_and_labels_are_left_out_together_for_guidance(genres: str, text: str, together: float):
    """By a draw of its own, which a model of labels alone has no need of; the others are drawn for the rest."""
    model = DiTConfig.model_validate(MODEL | {"text": text})
    data = DataConfig(label_column="genre", caption_dropout=0.2, label_dropout=0.5, null_dropout=0.2)
    manifest = read_datasets([genres], split="train", data=data, model=model)
    source = PackLoader(manifest, RectifiedFlow(FlowConfig()), data, model=model, seed=0)
    rows = [manifest.row(i) for i in range(len(manifest))]
    full = [i for i, row in enumerate(rows) if row["text_shard"] is not None and row["label"] is not None]
    planned = [PlannedSample(i, 0, int(manifest.num_tokens[i])) for i in full]
    drawn = [source.builder.build(one, epoch) for one in planned for epoch in range(200)]
    absent = torch.tensor([(s.text is None, s.label is None, s.text is None and s.label is None) for s in drawn])
    expected = together + (1 - together) * torch.tensor([0.2, 0.5, 0.1])
    torch.testing.assert_close(absent.float().mean(0), expected, atol=0.03, rtol=0)


def test_names_are_classes_in_their_order_whatever_the_split(genres: str):
    index = pq.read_table(f"{genres}/shards/index.parquet").to_pylist()
    expected = {row["clip_id"]: row["genre"] for row in index}
    train_split, held_out = read(genres), read(genres, split="val")
    assert train_split.labels == held_out.labels == ("action", "comedy", "drama")
    for manifest in (train_split, held_out):
        assert all(expected[clip] == name for clip, name in names(manifest).items()) and len(manifest) > 2
    given = ("drama", "horror", "comedy", "action")
    chosen = read(genres, num_classes=4, labels=given)
    assert chosen.labels == given and names(chosen) == names(train_split)


def test_datasets_share_their_classes(genres: str, dataset: str, tmp_path: Path):
    other = labelled(dataset, tmp_path / "other", ["western", "drama"])
    both = read(genres, other, num_classes=4)
    assert both.labels == ("action", "comedy", "drama", "western")
    of_other = both.table.filter(pa.array(both.sources == 1))["label"].to_pylist()
    assert set(of_other) == {2, 3}


def test_integers_are_numbers_of_classes(dataset: str, tmp_path: Path):
    numbered = labelled(dataset, tmp_path / "numbered", [2, 0, None])
    manifest = read(numbered)
    assert manifest.labels is None and set(manifest.table["label"].to_pylist()) == {2, 0, None}
    with pytest.raises(ValueError, match=r"clip \w{32} has label 2; expected 0 to 1: raise train\.model\.num_classes"):
        read(numbered, num_classes=2)


def test_labels_that_do_not_fit_are_refused(genres: str, dataset: str, tmp_path: Path):
    with pytest.raises(ValueError, match=r"the column has 3 classes; set train\.model\.num_classes=3"):
        read(genres, num_classes=None)
    with pytest.raises(ValueError, match=r"the column has 3 classes; set train\.model\.num_classes=3"):
        read(genres, num_classes=2)
    with pytest.raises(ValueError, match=r"train\.data\.labels: the column genre also has action"):
        read(genres, labels=("drama", "comedy"))
    unlabelled = labelled(dataset, tmp_path / "unlabelled", ["x"], name="mood")
    shutil.copy(f"{unlabelled}/shards/index.parquet", f"{unlabelled}/clips.parquet")
    with pytest.raises(ValueError, match=r"train\.data\.label_column: .* stores no 'genre'; it has .*clip_id"):
        read(unlabelled)
    numbered = labelled(dataset, tmp_path / "numbered", [1])
    with pytest.raises(ValueError, match="numbers in one dataset, names in another"):
        read(genres, numbered)


def test_a_share_of_samples_is_trained_without_its_label(genres: str):
    manifest = read(genres)
    config = DataConfig.model_validate({"label_column": "genre", "label_dropout": 0.3, "plan": {"token_budget": 96}})
    loader = PackLoader(manifest, RectifiedFlow(FlowConfig()), config, model=DiTConfig.model_validate(MODEL), seed=0)
    drawn = [
        (sample.label, manifest.row(one.row)["label"])
        for epoch in range(20)
        for pack in loader.planner.epoch(epoch)
        for one in pack
        for sample in [loader.builder.build(one, epoch)]
    ]
    assert all(given in (label, None) for given, label in drawn)
    labels = [given for given, label in drawn if label is not None]
    assert 0.2 < sum(given is None for given in labels) / len(labels) < 0.4
    batch = loader.load(next(loader.planner.steps()).packs[0])
    assert set(batch.labels.tolist()) <= {-1, 0, 1, 2} and batch.labels.max() > -1


def test_a_run_keeps_its_classes_and_samples_by_them(genres: str, tmp_path: Path):
    settings = {
        "steps": 2,
        "device": "cpu",
        "model": MODEL,
        "data": {"label_column": "genre", "plan": {"token_budget": 96}},
        "evaluate": {"held_out": {"timesteps": [0.5], "max_clips": 4}},
    }
    config = TrainConfig.model_validate(settings)
    train(config, genres, tmp_path / "run")
    record = read_run(tmp_path / "run")[1]
    assert record.labels == ("action", "comedy", "drama")
    assert json.loads((tmp_path / "run/run.json").read_text())["labels"] == ["action", "comedy", "drama"]
    assert [class_number(label, config, record) for label in ("drama", "0", None)] == [2, 0, None]
    sampling = SampleConfig(num_steps=2, weights="model", device="cpu")
    size = {"width": 32, "height": 32, "num_frames": 1}
    requests = [Request(prompt="", label=label, **size) for label in ("drama", "comedy", "2")]
    latents = [sample(tmp_path / "run", [request], sampling)[0].latent for request in requests]
    assert torch.equal(latents[0], latents[2])
    with pytest.raises(ValueError, match=r"label 'horror': .*it knows action, comedy, drama"):
        class_number("horror", config, record)
    with pytest.raises(ValueError, match="trained without captions"):
        sample(tmp_path / "run", [Request(prompt="x", width=32, height=32, num_frames=1)], sampling)
    path = Path(genres) / "shards/index.parquet"
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.schema.get_field_index("genre"), "genre", [["a"] * table.num_rows]), path)
    with pytest.raises(ValueError, match=r"trained on the classes \('action', .*set train\.data\.labels"):
        train(TrainConfig.model_validate(settings | {"steps": 3}), genres, tmp_path / "run")
