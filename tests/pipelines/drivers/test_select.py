"""Another policy over a curated dataset: nothing is decoded, nothing is cut."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from curate.dataset.dataset import Dataset
from curate.media.counter import frames_decoded
from pipelines.config import load_config
from pipelines.dataset import config_of
from pipelines.drivers.curate import curate, policy_change
from pipelines.drivers.select import select
from tests.support.videos import moving, write_video

SETTINGS = ["scan.detector.kind=adaptive", "score.scorers=null", "execute.executor=local"]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    for seed, seconds in ((1, 1.5), (2, 2.5), (3, 3.5)):
        write_video(tmp_path / "videos" / f"{seed}.mp4", moving(seed, seconds))
    curate([str(tmp_path / "videos")], str(tmp_path / "out"), load_config(overrides=SETTINGS))
    return tmp_path / "out"


def test_clips_leave_the_index_and_come_back_and_the_tars_stay(dataset: Path) -> None:
    tars = {path.name: path.read_bytes() for path in (dataset / "shards").glob("*.tar")}
    index = (dataset / "shards/index.parquet").read_bytes()
    strict = select(str(dataset), overrides=["select.rules.duration_s.min=2"])
    assert (strict.before["keep"], strict.after["keep"], strict.num_indexed, strict.num_uncut) == (3, 2, 2, 0)
    assert config_of(Dataset(str(dataset))).select.rules["duration_s"].min == 2
    select(str(dataset), overrides=["select.rules.duration_s.min=1"])
    assert (dataset / "shards/index.parquet").read_bytes() == index
    assert {path.name: path.read_bytes() for path in (dataset / "shards").glob("*.tar")} == tars


def test_it_decides_as_curate_does_and_decodes_nothing(dataset: Path, tmp_path: Path) -> None:
    before = frames_decoded()
    assert before > 0, "the fixture's curate ran in this process, and was counted"
    assert select(str(dataset), overrides=["select.rules.duration_s.min=2"]).num_frames_decoded == 0
    selected = (dataset / "clips.parquet").read_bytes()
    curate(
        [str(tmp_path / "videos")], str(dataset), load_config(overrides=[*SETTINGS, "select.rules.duration_s.min=2"])
    )
    assert frames_decoded() == before
    assert (dataset / "clips.parquet").read_bytes() == selected


def test_newly_kept_clips_are_counted_and_wait_for_curate(tmp_path: Path) -> None:
    for seed, seconds in ((1, 1.5), (2, 2.5)):
        write_video(tmp_path / "videos" / f"{seed}.mp4", moving(seed, seconds))
    out = str(tmp_path / "out")
    strict = load_config(overrides=[*SETTINGS, "select.rules.duration_s.min=2"])
    curate([str(tmp_path / "videos")], out, strict)
    loose = select(out, overrides=["select.rules.duration_s.min=1"])
    assert (loose.after["keep"], loose.num_indexed, loose.num_uncut) == (2, 1, 1)
    done = curate([str(tmp_path / "videos")], out, load_config(overrides=SETTINGS))
    assert done.num_indexed == 2
    assert len(set(pq.read_table(f"{out}/shards/index.parquet")["shard"].to_pylist())) == 2, "shards are written once"


def test_a_setting_that_needs_frames_is_refused(dataset: Path) -> None:
    with pytest.raises(ValueError, match="policies only"):
        select(str(dataset), overrides=["scan.short_side_px=100"])


@pytest.mark.parametrize(
    ("section", "setting", "message"),
    [
        ("scan", {"detector": {"kind": "whole"}}, "another version of the scan"),
        ("shards", {"encode": {"crf": 30}}, "are cut with other settings"),
    ],
)
def test_clips_of_another_scan_or_cut_are_kept_as_they_are(
    section: str, setting: dict[str, Any], message: str, dataset: Path
) -> None:
    stored = Dataset(str(dataset))
    made_with = stored.sections()["curate"]
    stored.save_section("curate", {**made_with, section: {**made_with[section], **setting}})
    files = [dataset / name for name in ("clips.parquet", "shards/index.parquet", "config.yaml")]
    before = [file.read_bytes() for file in files]
    with pytest.raises(ValueError, match=message):
        select(str(dataset), overrides=["select.rules.duration_s.min=2"])
    assert [file.read_bytes() for file in files] == before


def test_one_file_serves_curate_and_select(dataset: Path, tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("select: {rules: {duration_s: {min: 2}}}\nexecute: {executor: local}\n")
    before = config_of(Dataset(str(dataset))).execute
    assert before.executor != "local", "a dataset does not say how work is run"
    assert select(str(dataset), file=str(file)).after["keep"] == 2
    assert config_of(Dataset(str(dataset))).execute == before


def test_curate_says_where_its_policy_is_not_the_one_of_select(dataset: Path) -> None:
    select(str(dataset), overrides=["select.rules.duration_s.min=2"])
    here = Dataset(str(dataset))
    assert policy_change(here, config_of(here)) == ""
    said = policy_change(here, load_config(overrides=SETTINGS))
    assert "select.rules.duration_s.min=1.0; it was select.rules.duration_s.min=2" in said
    here.save_section("curate", {**here.sections()["curate"], "a_section": "of another reelpack"})
    assert policy_change(here, load_config(overrides=SETTINGS)) == said


def test_a_decision_that_is_killed_before_its_settings_are_saved_is_told(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, overrides = Dataset(str(dataset)), ["select.rules.duration_s.min=2"]
    save = Dataset.save_section

    def killed(self: Dataset, name: str, value: Any) -> None:
        if name == "curate":
            raise KeyboardInterrupt
        save(self, name, value)

    with monkeypatch.context() as patch:
        patch.setattr(Dataset, "save_section", killed)
        with pytest.raises(KeyboardInterrupt):
            select(str(dataset), overrides=overrides)
    assert here.is_running and config_of(here, or_running=True).select.rules["duration_s"].min == 2
    assert config_of(here).select.rules["duration_s"].min != 2
    assert select(str(dataset), overrides=overrides).after["keep"] == 2
    assert not here.is_running


def test_an_unfinished_run_of_curate_stays_one(dataset: Path) -> None:
    here = Dataset(str(dataset))
    here.save_section("running", {**here.made_with(), "num_inputs": 1})
    select(str(dataset), overrides=["select.rules.duration_s.min=2"])
    assert here.sections()["running"]["num_inputs"] == 1
