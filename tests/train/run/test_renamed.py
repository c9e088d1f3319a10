"""Old names of settings are refused, and the error names the new one."""

import pytest

from pipelines.config import load_config
from train.run.config import TrainConfig
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
