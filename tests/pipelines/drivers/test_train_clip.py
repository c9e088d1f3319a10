"""`reelpack train-clip` on a small dataset and a small open_clip model with random weights."""

import json
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from curate.dataset.dataset import Dataset
from curate.encoders.fingerprint import path_digest
from curate.encoders.open_clip import OpenClipConfig
from curate.storage.lease import hold
from pipelines.cli import app
from pipelines.commands.entry import run
from pipelines.config import Config, load_config
from pipelines.drivers.curate import curate
from pipelines.drivers.train_clip import train_clip
from pipelines.takedown.runs import runs_of
from tests.support.curated import SETTINGS, caption, copied
from tests.support.forks import forks, run_ranks
from tests.support.shapes import small_open_clip
from tests.support.videos import moving, write_video
from train.monitor.metrics import read_metrics
from train.run.checkpoint import list_checkpoints


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A captioned dataset of ten clips, some of them held out; a small model."""
    folder = tmp_path_factory.mktemp("clip")
    for seed in range(10):
        write_video(folder / "films" / f"{seed}.mp4", moving(seed, 1.0, (64, 96)))
    out = folder / "dataset"
    curate([str(folder / "films")], str(out), load_config(overrides=[*SETTINGS, "select.split.val_fraction=0.4"]))
    dataset = Dataset(str(out))
    caption(dataset, ("short", "dense", "dense.1"))
    splits = [row["split"] for row in dataset.read_index().to_pylist()]
    assert splits.count("train") >= 4 and splits.count("val") >= 2
    model = small_open_clip(folder / "model")
    return SimpleNamespace(films=folder / "films", out=out, url=str(out), dataset=dataset, model=model)


@pytest.fixture
def made(original: SimpleNamespace, tmp_path: Path) -> SimpleNamespace:
    return copied(original, tmp_path)


def settings(made: SimpleNamespace, **more: Any) -> Config:
    given = {
        "init": {"model": f"local-dir:{made.model}"},
        "device": "cpu",
        "batch_size": 4,
        "num_frames": 2,
        "lr": 0.01,
    }
    given |= {"epochs": 3, "checkpoint": {"every": 1}, **more}
    return load_config(overrides=[f"train_clip.{name}={json.dumps(value)}" for name, value in given.items()])


def test_the_trained_model_scores_the_dataset_and_its_scores_are_its_own(
    made: SimpleNamespace, tmp_path: Path
) -> None:
    summary = train_clip(made.url, tmp_path / "run", settings(made))
    encoders = [summary.encoder, f'{{kind: open_clip, model: "local-dir:{made.model}"}}']
    found = []
    for encoder in encoders:
        more = [f"score.scorers.text_match.{name}" for name in (f"encoder={encoder}", "wanted=[a red bar]")]
        config = load_config(overrides=more, base=load_config(overrides=SETTINGS))  # which have no other scorer
        curate([str(made.films / "0.mp4")], str(tmp_path / "scored"), config)
        scored = Dataset(str(tmp_path / "scored"))
        found.append((scored.made_with()["families"], scored.read_clips()["wanted_best"].to_pylist()))
    (families, [trained]), (other_families, [untrained]) = found
    assert families != other_families and abs(trained - untrained) > 1e-4


def test_a_second_run_continues_nothing_and_writes_nothing_twice(made: SimpleNamespace, tmp_path: Path) -> None:
    first = train_clip(made.url, tmp_path / "run", settings(made))
    written = (first.model / "open_clip_model.safetensors").stat().st_mtime_ns
    again = train_clip(made.url, tmp_path / "run", settings(made))
    assert again.rows == first.rows and again.facts == first.facts
    assert (first.model / "open_clip_model.safetensors").stat().st_mtime_ns == written
    assert [row["when"] for row in first.rows if "when" in row] == ["before", "after"]
    assert [run.folder for run in runs_of(made.url, [str(tmp_path)])] == [str(tmp_path / "run")]  # `forget` says so


def test_a_run_in_a_store_is_resumed_there_and_its_model_is_copied(made: SimpleNamespace, tmp_path: Path) -> None:
    url = f"memory://clips/{tmp_path.name}"
    train_clip(made.url, tmp_path / "run", settings(made))
    first = train_clip(made.url, url, settings(made))
    again = train_clip(made.url, url, settings(made))
    assert again.rows == first.rows and "when" in first.rows[-1]
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in first.model.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    here = path_digest(tmp_path / "run" / "model")
    assert path_digest(copy) == here  # the same weights as those of a run on this machine


def test_the_card_tells_data_recall_and_limits(made: SimpleNamespace, tmp_path: Path) -> None:
    summary = train_clip(made.url, tmp_path / "run", settings(made))
    card = (tmp_path / "run" / "README.md").read_text()
    assert card == (summary.model / "README.md").read_text()
    facts = summary.facts
    assert f"{facts.num_pairs} clips with {facts.num_pairs} short, {2 * facts.num_pairs} dense captions" in card
    assert f"{facts.num_held_out} held out. Captions by test-1" in card
    assert "image tower locked, text tower full" in card and "It is fitted to this dataset" in " ".join(card.split())
    for row in ("| text → clip | chance |", "| text → clip | before |", "| clip → text | after |"):
        assert row in card
    assert (
        "held-out texts are few" in card
        and str(made.out.parent) not in card
        and "The local checkpoint model, trained" in card
    )
    assert "100% of the captions are longer than the model's context of 16 tokens" in card


def test_a_folder_with_another_run_is_refused_with_what_differs(made: SimpleNamespace, tmp_path: Path) -> None:
    train_clip(made.url, tmp_path / "run", settings(made))
    with pytest.raises(ValueError, match=r"begun with other train_clip\.lr; expected"):
        train_clip(made.url, tmp_path / "run", settings(made, lr=0.02))
    other = small_open_clip(tmp_path / "other", seed=1)
    with pytest.raises(ValueError, match="begun with other model; expected"):
        train_clip(made.url, tmp_path / "run", settings(made, init={"model": f"local-dir:{other}"}))
    train_clip(made.url, tmp_path / "run", settings(made, num_decoders=1, checkpoint={"every": 9}))
    rows = made.dataset.captions("test-1").read().to_pylist()
    made.dataset.captions("test-1").publish([{**rows[0], "text": "another"}])
    with pytest.raises(ValueError, match="begun with other data; expected"):
        train_clip(made.url, tmp_path / "run", settings(made))


def test_one_process_trains_in_a_folder(made: SimpleNamespace, tmp_path: Path) -> None:
    with hold(tmp_path / "run", "train"), pytest.raises(ValueError, match="is being written by"):
        train_clip(made.url, tmp_path / "run", settings(made))


def test_what_a_dataset_lacks_is_told_before_the_model_is_loaded(made: SimpleNamespace, tmp_path: Path) -> None:
    nowhere = settings(made, init={"model": "local-dir:/nowhere"})
    with pytest.raises(ValueError, match=r"batch_size=99, and the train split has \d captioned clips; lower it"):
        train_clip(made.url, tmp_path / "run", settings(made, batch_size=99, init={"model": "local-dir:/nowhere"}))
    with pytest.raises(ValueError, match=r"/nowhere is not there"):
        train_clip(made.url, tmp_path / "run", nowhere)
    index = pq.read_table(made.out / "shards" / "index.parquet")
    for shard in set(index["shard"].to_pylist()):
        (made.out / "shards" / shard).unlink()
    with pytest.raises(ValueError, match=r"(\d) of \1 shards of the index are not there, such as .*put them back"):
        train_clip(made.url, tmp_path / "run", nowhere)
    pq.write_table(index.slice(0, 0), made.out / "shards" / "index.parquet")
    with pytest.raises(ValueError, match="no clip is kept; `reelpack status"):
        train_clip(made.url, tmp_path / "run", nowhere)
    (made.out / "shards" / "index.parquet").unlink()
    with pytest.raises(ValueError, match=r"index\.parquet is not there; `reelpack curate INPUT --out"):
        train_clip(made.url, tmp_path / "run", nowhere)


def test_a_dataset_without_captions_says_what_writes_them(made: SimpleNamespace, tmp_path: Path) -> None:
    made.dataset.save_section("caption_family", None)
    with pytest.raises(ValueError, match=r"none of the 10 clips has a caption of short, .*`reelpack caption` writes"):
        train_clip(made.url, tmp_path / "run", settings(made))
    assert not (tmp_path / "run").exists()


def test_memory_and_steps_are_told_before_the_start(
    made: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = train_clip(made.url, tmp_path / "run", settings(made))
    said = " ".join(capsys.readouterr().err.split())
    per_epoch = summary.facts.num_pairs // 4
    assert f"3 epochs of {per_epoch} steps of 4 pairs: {3 * per_epoch} steps" in said
    assert re.search(r"memory of a rank: 0\.0\d GiB of weights, gradients and optimizer, about 0\.00 GiB of act", said)


def test_levels_that_are_given_replace_those_that_are_not() -> None:
    assert load_config(overrides=["train_clip.levels={dense: 2}"]).train_clip.levels == {"dense": 2}


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("init.model=ViT-B-32", "train_clip.init: model ViT-B-32 needs `pretrained`"),
        ("init={model: 'local-dir:/m', pretrained: openai}", "train_clip.init: model local-dir:/m holds its weights"),
        ("text=locked", "train_clip: image and text are both locked"),
        ("levels={short: 0}", "train_clip: levels is {'short': 0.0}"),
        ("image=0", "train_clip.image"),
        ("epoch=3", "train_clip.epoch: unknown key; the nearest valid one is train_clip.epochs"),
    ],
)
def test_a_wrong_setting_is_one_message(override: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        load_config(overrides=[f"train_clip.{override}"])


def test_the_command_shows_recall_and_how_the_model_is_used(
    made: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = settings(made).train_clip.model_dump(mode="json", exclude_defaults=True)
    file = tmp_path / "settings.yaml"
    file.write_text(json.dumps({"train_clip": given}))
    with pytest.raises(SystemExit) as stopped:
        run(app, ["train-clip", made.url, "--out", str(tmp_path / "run"), "--config", str(file)])
    said = capsys.readouterr().out
    assert stopped.value.code == 0
    assert re.search(r"text → clip\s+chance\s+\d+\.\d%", said) and re.search(r"clip → text\s+after", said)
    assert f"local-dir:{(tmp_path / 'run' / 'model')}" in said.replace("\n", "")


def _as_rank(config: Config, dataset: str, out: Path) -> None:
    train_clip(dataset, out, config)


@pytest.mark.slow
@pytest.mark.parametrize("given", [{"image": "full", "chunk_size": 1}, {"loss": "sigmoid"}])
def test_two_ranks_learn_what_one_does(made: SimpleNamespace, tmp_path: Path, given: dict[str, Any]) -> None:
    """Up to the order of summation: negatives of both ranks, one gradient."""
    alone = train_clip(made.url, tmp_path / "alone", settings(made, **given))
    ended = run_ranks(2, settings(made, **given), made.url, tmp_path / "both", entry=_as_rank)
    assert [one.code for one in ended] == [0, 0], ended
    rows = read_metrics(tmp_path / "both" / "metrics.jsonl")
    assert len(rows) == len(alone.rows)
    for row, expected in zip(rows, alone.rows, strict=True):
        for name in ("loss", "grad_norm", "temperature", "bias"):
            assert (name in row) == (name in expected)
            assert row.get(name, 0) == pytest.approx(expected.get(name, 0), rel=1e-4)
        assert row.get("text_to_clip", {}).get("num") == expected.get("text_to_clip", {}).get("num")
    texts, image = ["a red bar", "a blue bar"], np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    found = []
    for run_folder in ("alone", "both"):  # weights without a gradient, as of a key's bias, move with the rounding
        encoder = OpenClipConfig(model=f"local-dir:{tmp_path / run_folder / 'model'}", device="cpu").build()
        encoder.setup()
        found.append(np.concatenate([encoder.embed_texts(texts), encoder.embed_images([image])]))
    np.testing.assert_allclose(found[0], found[1], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("image", ["locked", "full"])
def test_a_run_that_is_killed_resumes_to_the_same_bits(made: SimpleNamespace, tmp_path: Path, image: str) -> None:
    config = settings(made, image=image, epochs=30)
    whole = train_clip(made.url, tmp_path / "whole", config)
    process = forks().Process(target=_as_rank, args=(config, made.url, tmp_path / "killed"))
    process.start()
    while len(list_checkpoints(tmp_path / "killed" / "checkpoints")) < 2:
        assert process.is_alive()
        time.sleep(0.01)
    process.kill()
    process.join()
    (last,) = list_checkpoints(tmp_path / "killed" / "checkpoints")[-1:]
    assert process.exitcode == -9 and last.name < "step-000030"
    resumed = train_clip(made.url, tmp_path / "killed", config)
    assert path_digest(resumed.model) == path_digest(whole.model)
    told = [[{**row, "seconds": 0} for row in one.rows] for one in (resumed, whole)]
    assert told[0] == told[1]


@pytest.mark.slow
def test_ranks_that_cannot_share_a_batch_are_told(made: SimpleNamespace, tmp_path: Path) -> None:
    ended = run_ranks(2, settings(made, batch_size=3), made.url, tmp_path / "run", entry=_as_rank)
    assert all("2 ranks cannot share a batch of 3 pairs evenly" in one.errors for one in ended)
