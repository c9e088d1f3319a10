"""What a user types to look into a dataset and to go on with it: answers compared with the tables."""

import json
import os
import shlex
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from curate.dataset.dataset import Dataset
from curate.dataset.rows import failure_row
from curate.schema import Failure, FailureKind
from pipelines.cli import main
from pipelines.config import load_config
from pipelines.console.tables import out
from pipelines.drivers.curate import curate
from pipelines.drivers.retry import failing, retry
from pipelines.execute.base import ExecuteConfig
from pipelines.inspection.explain import explain, files_named, time_code
from pipelines.inspection.failures import standing_failures
from pipelines.inspection.status import status
from tests.support.curated import SETTINGS, caption, copied, curated
from tests.support.videos import moving, write_video

LOCAL = ExecuteConfig(executor="local")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    return curated(tmp_path_factory.mktemp("original"))


@pytest.fixture
def made(original: SimpleNamespace, tmp_path: Path) -> SimpleNamespace:
    return copied(original, tmp_path)


def run(*arguments: str) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def tree(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def clips_by_file(made: SimpleNamespace) -> dict[str, dict[str, object]]:
    return {Path(row["video_uri"]).name: row for row in made.dataset.read_clips().to_pylist()}


def test_status_counts_what_the_tables_hold_and_writes_nothing(made: SimpleNamespace) -> None:
    before = tree(made.out)
    found = status(made.url)
    assert tree(made.out) == before
    assert not found.is_running
    assert found.inputs == {"ok": 4, "truncated": 1}
    assert found.funnel == made.result.funnel == {"clips": 4, "keep": 2, "reject": 2, "reject:duration_s.min": 1,
                                                  "reject:duplicate": 1}  # fmt: skip
    assert found.num_cut == found.funnel["keep"]
    (group,) = found.failures
    assert (group.step, group.kind, group.num_failed, group.max_attempts) == ("scan", "truncated", 1, 1)
    assert not group.is_worth_retrying


def test_status_as_json_says_the_same(made: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("status", made.url, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["inputs"] == {"ok": 4, "truncated": 1}
    assert found["funnel"]["keep"] == found["num_cut"] == 2
    assert found["failures"][0]["kind"] == "truncated"


def test_status_names_the_step_that_comes_next(made: SimpleNamespace) -> None:
    assert status(made.url).next_command == f"reelpack caption {made.url}"
    made.dataset.save_section("caption", {"frames": {"num_frames": 5}})
    assert status(made.url).next_command == f"reelpack caption {made.url} --set caption.frames.num_frames=5"
    caption(made.dataset)
    found = status(made.url)
    assert found.captioned == {"test-1": 2}
    assert found.next_command == f"reelpack encode {made.url}"


def test_status_works_before_anything_is_scanned(made: SimpleNamespace, tmp_path: Path) -> None:
    dataset = Dataset(str(tmp_path / "begun"))
    dataset.make()
    rule = {"select": {"text_match": {"min": 0.2}}}
    running = {**made.dataset.sections()["curate"], **rule, "families": ["text_match-1"], "num_inputs": 9}
    dataset.save_section("running", running)
    found = status(dataset.url)
    assert found.is_running
    assert (found.num_inputs, found.funnel, found.scored) == (9, {"clips": 0}, {"text_match-1": 0})


def test_a_dataset_keeps_the_settings_of_curation_alone(made: SimpleNamespace) -> None:
    """An earlier version saved those of training too; a key that has another name now does not close the dataset."""
    section = made.dataset.sections()["curate"]
    assert not section.keys() & {"train", "caption", "encode", "sample", "text"}
    made.dataset.save_section("curate", {**section, "train": {"parallel": {"mode": "replicate"}, "gone": 1}})
    assert status(made.url).funnel["keep"] == 2


def test_a_score_that_is_still_pending_leaves_clips_pending(made: SimpleNamespace) -> None:
    section = made.dataset.sections()["curate"]
    section["select"]["rules"]["text_match"] = {"min": 0.2}
    made.dataset.save_section("running", {**section, "families": ["text_match-1"], "num_inputs": 5})
    found = status(made.url)
    assert found.funnel["pending"] == 3
    assert found.scored == {"text_match-1": 0}


def test_the_command_that_status_names_finishes_a_run_that_was_stopped(
    made: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(made.out)
    made.dataset.save_section("running", {**made.dataset.sections()["curate"], "num_inputs": 5})
    made.dataset.save_section("curate", None)
    command = status(made.url).next_command
    monkeypatch.chdir("/")
    assert run(*shlex.split(command)[1:]) == 0
    assert tree(made.out) == before


def test_select_names_the_command_that_cuts_what_is_kept_now(
    made: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("select", made.url, "--set", "select.rules.duration_s.min=0.4") == 0
    said = capsys.readouterr().out
    assert "0 frames decoded" in said
    assert "1 kept clips are not in a shard yet" in said
    (command,) = (line for line in said.splitlines() if line.startswith("reelpack curate"))
    assert status(made.url).next_command == command
    assert run(*shlex.split(command)[1:]) == 0
    found = status(made.url)
    assert found.num_cut == found.funnel["keep"] == 3


def test_inputs_have_one_name_and_are_remembered_from_any_folder(
    made: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    typed = os.path.relpath(made.films / "2.mp4", tmp_path)
    assert typed.startswith("..")
    curate([typed], str(tmp_path / "other"), load_config(overrides=SETTINGS))
    other = Dataset(str(tmp_path / "other"))
    assert other.made_with()["inputs"] == [row["uri"] for row in other.videos.rows()] == [str(made.films / "2.mp4")]


def test_explain_tells_a_clip_by_its_beginning_and_names_its_copies(
    made: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    caption(made.dataset)
    clips = clips_by_file(made)
    story = explain(made.url, str(clips["small.mp4"]["clip_id"])[:12])
    assert story.clip["duplicate_of"] == clips["1.mp4"]["clip_id"]
    assert {row["clip_id"] for row in story.group} == {clips[name]["clip_id"] for name in ("1.mp4", "small.mp4")}
    assert run("explain", made.url, str(clips["1.mp4"]["clip_id"])) == 0
    said = capsys.readouterr().out
    assert "kept for more picture" in said
    assert "00:00:00.000 – 00:00:02.500, clip 1 of 1" in said
    assert f"caption of {clips['1.mp4']['clip_id']}" in said
    assert "train-000000.tar" in said


def test_explain_sets_each_value_beside_its_bound(made: SimpleNamespace) -> None:
    story = explain(made.url, str(clips_by_file(made)["3.mp4"]["clip_id"]))
    measures = {one.name: one for one in story.measures}
    assert (measures["duration_s"].verdict, measures["duration_s"].margin) == ("fails", -0.5)
    assert measures["luminance"].verdict == "passes"
    value = measures["luminance"].value
    assert value is not None
    assert measures["luminance"].margin == pytest.approx(min(value - 0.06, 0.97 - value))
    assert measures["sharpness"].verdict == "", "no rule bounds it"
    assert story.clip["reasons"] == ["duration_s.min"]
    assert "balance_weight" not in measures, "no measurement"


def test_explain_lays_no_rule_on_an_image_that_is_not_for_images(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(moving(5, 0.1)[0]).save(tmp_path / "in/picture.png")
    curate([str(tmp_path / "in")], str(tmp_path / "out"), load_config(overrides=SETTINGS))
    (story,) = files_named(str(tmp_path / "out"), "picture.png")
    measures = {one.name: one for one in explain(str(tmp_path / "out"), story.clips[0]["clip_id"]).measures}
    assert measures["duration_s"].verdict == measures["motion"].verdict == ""


def test_explain_lists_the_clips_of_a_file_and_says_why_one_has_none(
    made: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(made.films)
    clip = clips_by_file(made)["2.mp4"]["clip_id"]
    for name in ("2.mp4", "./2.mp4", "films/2.mp4", str(made.films / "2.mp4"), "../films/2.mp4"):
        (story,) = files_named(made.url, name)
        assert [row["clip_id"] for row in story.clips] == [clip]
    assert run("explain", made.url, "broken.mp4") == 0
    assert "failed: truncated" in capsys.readouterr().out


def test_explain_of_no_clip_or_of_several_is_an_error_that_helps(made: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match="beginning of 4 clip ids"):
        explain(made.url, "")
    with pytest.raises(ValueError, match="an id that begins with zzz"):
        explain(made.url, "zzz")
    name = str(clips_by_file(made)["2.mp4"]["clip_id"])
    with pytest.raises(ValueError, match=f"the nearest are {name}"):
        explain(made.url, f"{name[:10]}zz")


def test_time_codes_carry() -> None:
    assert [time_code(s) for s in (0.0, 59.9996, 3661.25)] == ["00:00:00.000", "00:01:00.000", "01:01:01.250"]


def test_retry_attempts_what_failed_counts_the_attempts_and_says_what_is_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = curated(tmp_path)
    assert retry(made.url, execute=LOCAL).curated is None, "a truncated file ends the same way every time"
    again = retry(made.url, {FailureKind.TRUNCATED}, LOCAL)
    assert [(one.kind, one.max_attempts) for one in again.failures] == [("truncated", 2)]
    write_video(made.films / "broken.mp4", moving(8, 2))
    assert run("retry", made.url, "--kind", "truncated", "--executor", "local") == 0
    assert "1 succeeded now, 0 still fail" in capsys.readouterr().out
    assert status(made.url).funnel["keep"] == 3
    assert failing(made.url) == ((), {})
    assert run("retry", made.url, "--all") == 0
    assert "nothing to retry" in capsys.readouterr().out


def test_failures_of_later_steps_stand_until_there_is_a_result_and_name_their_own_command(
    made: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    made.dataset.save_section("caption_family", "test-1")
    clip = made.dataset.read_index()["clip_id"].to_pylist()[0]
    failure = Failure(subject=clip, step="caption", kind=FailureKind.MODEL, detail="nothing was said")
    made.dataset.failures.publish([failure_row(failure, "test-1", f"reelpack caption {made.url}")])
    assert run("retry", made.url) == 0
    assert f"a command of its own: reelpack caption {made.url}" in capsys.readouterr().out
    caption(made.dataset)
    assert [row["step"] for row in standing_failures(made.dataset)] == ["scan"]


def test_failures_of_other_settings_do_not_stand(made: SimpleNamespace) -> None:
    clip = made.dataset.read_clips()["clip_id"].to_pylist()[0]
    failure = Failure(subject=clip, step="cut", kind=FailureKind.CORRUPT, detail="")
    made.dataset.failures.publish([failure_row(failure, "an earlier cut", "")])
    assert [row["step"] for row in standing_failures(made.dataset)] == ["scan"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["retry", "DATASET", "--kind", "bad_luck"], "no such kind of failure; there are missing"),
        (["explain", "DATASET", "zzz"], "begins with zzz"),
        (["select", "DATASET", "--set", "scan.short_side_px=99"], "policies only"),
        (["select", "DATASET", "--set", "select.rules.motoin.min=1"], "the nearest one is motion"),
        (["status", "NOWHERE"], "is no dataset"),
        (["plan", "NOWHERE/*.mp4"], "no files found"),
        (["curate", "NOWHERE", "--out", "NEW", "--executor", "slurm"], "execute.executor"),
        (["curate", "FILMS", "--out", "NEW", "--sidecar", "NOWHERE.csv"], "cannot be read"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_two(
    made: SimpleNamespace, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"DATASET": made.url, "NOWHERE": str(made.films / "x"), "FILMS": str(made.films), "NEW": f"{made.url}2"}
    for name, value in names.items():
        arguments = [part.replace(name, value) for part in arguments]
    assert run(*arguments) == 2
    said = capsys.readouterr().err
    assert said.count("error:") == 1
    assert message in said
    assert "Traceback" not in said


def test_the_summary_of_curate_adds_up_and_says_what_is_not_in_the_index(
    made: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    assert run("curate", str(made.films), "--out", made.url, *settings) == 0
    rows = dict(
        line.rsplit(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line.strip()[-1:].isdigit()
    )
    counts = {name.strip(): int(count) for name, count in rows.items() if count.isdigit()}
    assert counts["inputs"] == counts["scanned"] + counts["failed"]
    assert counts["clips"] == counts["keep"] + counts["reject"]
    assert counts["reject"] == counts["duplicate"] + counts["duration_s.min"]
    assert counts["frames decoded in this run"] == 0


def test_what_is_printed_for_other_programs_is_not_folded(made: SimpleNamespace, tmp_path: Path) -> None:
    assert out.width > 1000
    long = tmp_path / ("a" * 150)
    write_video(long / "film.mp4", np.concatenate([moving(11, 1.2), moving(12, 1.2)]))
    curate([str(long)], str(tmp_path / "long"), load_config(overrides=SETTINGS))
    (story,) = files_named(str(tmp_path / "long"), "film.mp4")
    assert len(story.clips) == 2
    assert explain(str(tmp_path / "long"), story.clips[1]["clip_id"]).place == (2, 2)
