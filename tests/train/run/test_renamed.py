"""Old names of settings are refused, and the error names the new one."""

import re
from pathlib import Path

import pytest

from pipelines.config import load_config
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


@pytest.mark.parametrize("key", RENAMED.values())
def test_the_new_name_is_a_setting(key: str):
    node = TrainConfig().model_dump()
    for name in key.split("."):
        node = node[name]


def test_a_run_of_old_names_lists_each_on_a_line(tmp_path: Path):
    (tmp_path / "config.yaml").write_text("{data: {extra_dropout: 0.1}, parallel: {mode: shard}}")
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path}/config.yaml: saved by another version")) as refused:
        read_run(tmp_path)
    assert str(refused.value).splitlines()[1:] == [
        "  train.data.extra_dropout is now train.data.condition_dropout",
        "  train.parallel.mode=shard is now train.parallel.mode=fsdp",
    ]
