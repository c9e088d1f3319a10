"""Old names of settings are refused, and the error names the new one."""

import re
from pathlib import Path

import pytest
import yaml

from pipelines.config import load_config
from tests.train.test_loop import config, logged
from train.loop import train
from train.run.config import TrainConfig
from train.run.folder import read_run
from train.run.renamed import RENAMED, RENAMED_VALUES

OLD = [(f"{old}=1", f"train.{old} is now train.{new}") for old, new in RENAMED.items()]
OLD += [
    (f"{key}={old}", f"train.{key}={old} is now train.{key}={new}")
    for key, values in RENAMED_VALUES.items()
    for old, new in values.items()
]


@pytest.mark.parametrize(("setting", "told"), OLD)
def test_an_old_name_names_the_new_one(setting: str, told: str):
    with pytest.raises(ValueError, match=f"train: .*{told}"):
        load_config(overrides=[f"train.{setting}"])


def test_the_probability_of_dense_captions_is_now_a_blend():
    with pytest.raises(ValueError, match=re.escape("is now train.data.blend={dense: 0.7, short: 0.3}")):
        load_config(overrides=["train.data.dense_probability=0.7"])


def test_a_run_that_saved_the_probability_continues_with_the_same_captions(dataset: str, tmp_path: Path):
    """`tests/train/data/test_blend.py` has the draws."""
    now = config(steps=4, optimizer__schedule="constant", data__blend={"dense": 0.3, "short": 0.7})
    train(now, dataset, tmp_path / "whole")
    train(now.model_copy(update={"steps": 2}), dataset, tmp_path / "old")
    path = tmp_path / "old/config.yaml"
    saved = yaml.safe_load(path.read_text())
    del saved["data"]["blend"]
    saved["data"]["dense_probability"] = 0.3
    path.write_text(yaml.safe_dump(saved))
    with pytest.raises(ValueError, match=r"data\.blend\.dense: 0\.3 → 0\.6.*set it back or train elsewhere"):
        train(config(steps=4, optimizer__schedule="constant"), dataset, tmp_path / "old")
    train(now, dataset, tmp_path / "old")
    old, whole = ([row for row in logged(tmp_path / name) if "loss" in row] for name in ("old", "whole"))
    assert old == whole and len(old) == 4


@pytest.mark.parametrize("key", RENAMED.values())
def test_the_new_name_is_a_setting(key: str):
    node = TrainConfig().model_dump()
    for name in key.split("."):
        node = node[name]


def test_a_run_of_old_names_lists_each_on_a_line(tmp_path: Path):
    (tmp_path / "run.json").touch()
    (tmp_path / "config.yaml").write_text("{data: {extra_dropout: 0.1}, parallel: {mode: shard}}")
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path}/config.yaml: saved by another version")) as refused:
        read_run(tmp_path)
    assert str(refused.value).splitlines()[1:] == [
        "  train.data.extra_dropout is now train.data.condition_dropout",
        "  train.parallel.mode=shard is now train.parallel.mode=fsdp",
    ]
