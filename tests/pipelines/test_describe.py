"""`reelpack config` tells what can be configured, and what it prints is a configuration."""

import json
import re
from pathlib import Path

import pytest
import yaml

from pipelines.cli import main
from pipelines.config import Config, load_config
from pipelines.describe import described, schema
from pipelines.keys import ANY, paths

SECTIONS = ["", *Config.model_fields, "train.optimizer", "scan.detector", "train.optimizer.lr", "caption.backend"]
SECTIONS += ["score.scorers", "score.scorers.nsfw", "score.scorers.text_match.encoder"]


@pytest.mark.parametrize("section", SECTIONS)
def test_what_is_printed_is_the_default_configuration(section: str, tmp_path: Path) -> None:
    (tmp_path / "printed.yaml").write_text(described(section))
    assert load_config(tmp_path / "printed.yaml") == Config()


def test_every_key_is_printed_or_belongs_to_another_member_of_a_union() -> None:
    text = described()
    for path in paths(Config):
        if ANY not in path:
            assert re.search(rf"\b{path.rpartition('.')[2]}:", text), path


def test_a_key_has_its_description_type_range_and_default() -> None:
    assert described("train.optimizer.lr").splitlines() == [
        "train:",
        "  optimizer:",
        "    # peak learning rate (float > 0)",
        "    lr: 0.0001",
    ]


def test_the_other_members_of_a_union_follow_as_comments() -> None:
    printed = described("scan.detector")
    assert yaml.safe_load(printed)["scan"]["detector"]["kind"] == Config().scan.detector.kind
    assert "# or detector:\n  #   kind: whole" in printed


def test_a_table_is_printed_entry_by_entry_with_the_members_that_it_lacks_as_comments() -> None:
    printed = described("score.scorers")
    assert "      # frames per forward pass (int ≥ 1)\n      batch_size: 32" in described("score.scorers.nsfw")
    assert "# a member of scorers:\n  #   kind: aesthetic" in printed and "#   kind: nsfw" not in printed


def test_a_key_of_another_member_is_printed_with_its_kind() -> None:
    printed = yaml.safe_load(described("encode.autoencoder.subfolder"))
    assert printed["encode"]["autoencoder"]["kind"] == "diffusers"


@pytest.mark.parametrize("section", SECTIONS)
def test_a_schema_is_json_and_names_the_keys_of_its_section(section: str) -> None:
    found = json.loads(json.dumps(schema(section)))
    if section == "train.optimizer":
        found = found.get("properties") or found["$defs"]["OptimizerConfig"]["properties"]
        assert found["lr"]["default"] == Config().train.optimizer.lr
    if section == "":
        assert set(found["properties"]) == set(Config.model_fields)


@pytest.mark.parametrize(
    ("typo", "meant"), [("train.optimiser", "train.optimizer"), ("scan.detecter", "scan.detector"), ("trian", "train")]
)
def test_a_mistyped_section_is_told_the_nearest_one(typo: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    for flags in ([], ["--schema"]):
        with pytest.raises(SystemExit) as stopped:
            main(["config", typo, *flags])
        assert stopped.value.code == 2
        assert f"the nearest one is {meant}" in capsys.readouterr().err
