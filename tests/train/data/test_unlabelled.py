"""Clips without captions: encoded and trained under the null caption, and said to be."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.latents import SyntheticClip, smooth_clips, write_dataset
from tests.train.test_loop import config, logged, on_ranks
from train.data.config import DataConfig
from train.data.mix import read_datasets
from train.estimate.forecast import forecast
from train.loop import train
from train.model.dit_config import DiTConfig
from train.run.folder import read_run
from train.sampling.config import SampleConfig
from train.sampling.request import Request
from train.sampling.sample import sample

MODEL = DiTConfig(width=32, depth=1, num_heads=2)


def unlabelled(root: Path, clips: list[SyntheticClip]) -> str:
    write_dataset(root, [replace(clip, short=None, dense=None) for clip in clips])
    shutil.rmtree(root / "text")
    return str(root)


@pytest.fixture
def bare(tmp_path: Path) -> str:
    return unlabelled(tmp_path / "bare", smooth_clips(12, num_val=3))


def test_a_dataset_without_captions_is_trained_under_the_null_caption(
    bare: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    out = tmp_path / "run"
    summary = train(config(steps=4), bare, out)
    assert (
        "all 9 training clips are trained under the null caption: 9 clips have no caption: run `reelpack caption"
        in caplog.text
    )
    assert caplog.text.count("null caption") == 1 and "embedding" not in caplog.text
    assert summary.train_clips == 9 and any("val_loss" in row for row in logged(out))
    _, record = read_run(out)
    assert record.text["fingerprint"] == "none"
    shown = json.loads((out / "blend.json").read_text())
    assert shown["captioned"] == 0 and not any(level["num_texts"] for level in shown["levels"])
    with pytest.raises(ValueError, match="trained on clips without captions; leave the prompts out"):
        sample(out, [Request(prompt="a rabbit", width=32, height=32, num_frames=1)], SampleConfig(num_steps=1))
    (drawn,) = sample(out, [Request(prompt="", width=32, height=32, num_frames=1)], SampleConfig(num_steps=1))
    assert drawn.latent.isfinite().all()


def test_it_resumes_and_is_the_same_run(bare: str, tmp_path: Path):
    for name, ends in (("whole", (4,)), ("parts", (2, 4))):
        for steps in ends:
            train(config(steps=steps, optimizer__schedule="constant"), bare, tmp_path / name)
    whole, parts = ([row["loss"] for row in logged(tmp_path / name) if "loss" in row] for name in ("whole", "parts"))
    assert whole == parts and len(whole) == 4


def test_labels_alone_need_no_text(bare: str, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = Path(bare) / "shards/index.parquet"
    table = pq.read_table(path)
    pq.write_table(table.append_column("topic", [["cat", "dog", "sea"] * 4]), path)
    settings = config(steps=2, model__text="none", model__num_classes=3, data__label_column="topic")
    train(settings, bare, tmp_path / "run")
    assert "caption" not in caplog.text and not (tmp_path / "run/blend.json").exists()


def test_the_plan_says_that_there_are_no_captions(bare: str):
    planned = forecast(config(), bare)
    assert planned.blend is not None and planned.blend.captioned == 0
    assert planned.blend.uncaptioned + planned.blend.dropped == 1
    assert forecast(config(model__text="none"), bare).blend is None


def test_captions_that_are_not_embedded_are_asked_for(make_dataset: Callable, make_clips: Callable):
    root = make_dataset(make_clips(6))
    shutil.rmtree(root / "text")
    with pytest.raises(ValueError, match=r"there is no text/.*run `reelpack caption .*train\.data\.text=none"):
        read_datasets(str(root), split="train", data=DataConfig(), model=MODEL)
    model = DiTConfig(width=32, depth=1, num_heads=2, text="none")
    assert not read_datasets(str(root), split="train", data=DataConfig(), model=model).has_texts


def test_captions_are_left_out_where_that_is_asked_for(
    make_dataset: Callable, make_clips: Callable, caplog: pytest.LogCaptureFixture
):
    root = str(make_dataset(make_clips(6)))
    manifest = read_datasets(root, split="train", data=DataConfig(text="none"), model=MODEL)
    assert manifest.table["text_shard"].null_count == len(manifest) == 6
    assert "all 6 training clips are trained under the null caption: train.data.text=none" in caplog.text


def test_an_empty_folder_of_text_is_none(bare: str, caplog: pytest.LogCaptureFixture):
    (Path(bare) / "text").mkdir()
    assert not read_datasets(bare, split="train", data=DataConfig(), model=MODEL).has_texts
    assert "9 clips have no caption" in caplog.text


def test_a_run_on_clips_that_got_captions_names_the_setting(bare: str, tmp_path: Path):
    clips = smooth_clips(12, num_val=3)
    train(config(steps=3), bare, tmp_path / "run")
    captioned = str(write_dataset(tmp_path / "captioned", clips))
    with pytest.raises(
        ValueError, match=r"trained on text none, the dataset now gives txt0; set train\.data\.text=none"
    ):
        train(config(steps=4), captioned, tmp_path / "run")
    assert train(config(steps=4, data__text="none"), bare, tmp_path / "other").train_clips == 9


def test_clips_without_captions_are_mixed_with_captioned_ones(bare: str, tmp_path: Path):
    captioned = str(write_dataset(tmp_path / "zoo", smooth_clips(8, num_val=2, seed=1)))
    manifest = read_datasets([bare, captioned], split="train", data=DataConfig(), model=MODEL)
    assert manifest.text["fingerprint"] == "txt0" and [part.text for part in manifest.parts] == ["none", "txt0"]
    of_parts = [manifest.table["text_shard"].filter(manifest.sources == number) for number in (0, 1)]
    assert of_parts[0].null_count == len(of_parts[0]) == 9 and of_parts[1].null_count < len(of_parts[1])
    planned = forecast(config(), [bare, captioned])
    assert planned.blend is not None and 0 < planned.blend.captioned < 0.5
    assert train(config(steps=2), [bare, captioned], tmp_path / "run").train_clips == 15


@pytest.mark.slow
def test_two_ranks_train_what_one_does(bare: str, tmp_path: Path):
    train(config(steps=3), bare, tmp_path / "one")
    on_ranks(2, config(steps=3), bare, tmp_path / "two")
    one, two = ([row["loss"] for row in logged(tmp_path / name) if "loss" in row] for name in ("one", "two"))
    assert one == pytest.approx(two, rel=1e-5)


def test_clips_without_captions_are_taken_on_purpose_or_refused(
    bare: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Beside others, whatever fingerprint of text these are asked for; also where captions were not embedded."""
    captioned = str(write_dataset(tmp_path / "zoo", smooth_clips(8, num_val=2, seed=1)))
    shutil.rmtree(write_dataset(tmp_path / "written", smooth_clips(8, seed=2)) / "text")
    on_purpose = DataConfig(uncaptioned="allow", text="txt0")
    caplog.set_level("INFO")
    both = [bare, captioned, str(tmp_path / "written")]
    manifest = read_datasets(both, split="train", data=on_purpose, model=MODEL)
    assert [part.text for part in manifest.parts] == ["none", "none", "txt0"]
    assert "on purpose (train.data.uncaptioned=allow); videos: 6, images: 3" in caplog.text
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    with pytest.raises(ValueError, match=r"has a text embedding .*train\.data\.uncaptioned=allow to train these"):
        read_datasets(both, split="train", data=DataConfig(), model=MODEL)
    with pytest.raises(ValueError, match=r"9 of 9 training clips have no text .*uncaptioned=refuse; .*run `reelpack"):
        read_datasets(bare, split="train", data=DataConfig(uncaptioned="refuse"), model=MODEL)
    planned = forecast(config(data__uncaptioned="allow"), [bare, captioned])
    assert planned.blend is not None and planned.blend.clips == {"video": (3, 10), "image": (2, 5)}
