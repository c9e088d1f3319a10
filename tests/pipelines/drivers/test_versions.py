"""Versions of the decision: each change is one, any two are compared, and any is decided again, bit for bit."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from curate.dataset.decisions import Move
from curate.dataset.versions import FOUND, difference, find_version, record, versions
from curate.storage.owner import here
from pipelines.cli import main
from pipelines.config import load_config
from pipelines.drivers.curate import curate
from pipelines.drivers.forget import forget, plan_forget
from pipelines.drivers.select import select
from pipelines.drivers.versions import changed_settings, checkout, log
from pipelines.inspection.verify import verify
from tests.support.curated import SETTINGS, copied, curated


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    return curated(tmp_path_factory.mktemp("original"))


@pytest.fixture
def made(original: SimpleNamespace, tmp_path: Path) -> SimpleNamespace:
    """One film of 2.5 s is kept with a copy that is not, one of 1.5 s is kept, one of 0.5 s is too short."""
    made = copied(original, tmp_path)
    rows = made.dataset.read_clips().to_pylist()
    made.clips = {Path(row["video_uri"]).name: row["clip_id"] for row in rows}
    return made


def selected(made: SimpleNamespace, *rules: str) -> bytes:
    """Decide by these rules; `clips.parquet`."""
    select(made.url, None, [f"select.rules.{rule}" for rule in rules])
    return bytes((made.out / "clips.parquet").read_bytes())


def test_each_change_of_policy_is_a_version_and_what_changes_nothing_is_none(made: SimpleNamespace) -> None:
    selected(made, "duration_s.min=0.2")
    selected(made, "duration_s.min=0.2")
    curate([str(made.films)], made.url, load_config(overrides=[*SETTINGS, "select.rules.duration_s.min=0.2"]))
    selected(made, "duration_s.min=0.1")
    found = log(made.url)
    assert [entry.version.number for entry in found] == [1, 2, 3]
    assert [entry.changed for entry in found] == [
        (),
        ("select.rules.duration_s.min=0.2",),
        ("select.rules.duration_s.min=0.1",),
    ]
    assert [entry.version.counts for entry in found] == [{"keep": 2, "reject": 2}, *2 * [{"keep": 3, "reject": 1}]]
    assert [entry.version.kept_s for entry in found] == [4.0, 4.5, 4.5]
    assert found[1].version.command == here("").command
    decided = made.dataset.decisions.rows()
    assert [row["number"] for row in decided if row["clip_id"] == made.clips["3.mp4"]] == [1, 2]
    assert len(decided) == 5, "a version that changes no decision has no rows"


def test_versions_differ_by_what_came_in_and_left_for_which_reason(made: SimpleNamespace) -> None:
    selected(made, "duration_s.min=0.2", "duration_s.max=2")
    assert set(changed_settings(*map(find_version, [made.dataset] * 2, (1, 2)))) == {
        "select.rules.duration_s.min=0.2",
        "select.rules.duration_s.max=2.0",
    }
    found = difference(made.dataset, 1, 2, ids=True)
    assert found.came == (Move(why="duration_s.min", num_clips=1, seconds=0.5),)
    assert found.left == (Move(why="duration_s.max", num_clips=1, seconds=2.5),)
    assert (found.came_ids, found.left_ids) == ((made.clips["3.mp4"],), (made.clips["1.mp4"],))
    back = difference(made.dataset, 2, 1)
    assert ([one.num_clips for one in back.came], back.left_ids) == ([1], ())
    with pytest.raises(ValueError, match="has no version 3; it has 1 to 2"):
        difference(made.dataset, 1, 3)


def test_a_version_is_decided_again_byte_for_byte_and_becomes_the_newest(made: SimpleNamespace) -> None:
    first = (made.out / "clips.parquet").read_bytes()
    second = selected(made, "duration_s.min=0.2", "motion=null")
    assert selected(made, "duration_s.max=1") not in (first, second)
    tars = {path: path.read_bytes() for path in made.out.glob("shards/*.tar")}
    for number, expected in ((1, first), (2, second)):
        found = checkout(made.url, number)
        assert (found.num_unlike, found.decided.num_frames_decoded) == (0, 0)
        assert (made.out / "clips.parquet").read_bytes() == expected
    assert found.decided.num_uncut == 1
    assert {path: path.read_bytes() for path in made.out.glob("shards/*.tar")} == tars
    assert [one.settings for one in versions(made.dataset)][1:5:3] == 2 * [find_version(made.dataset, 2).settings]
    assert [problem for check in verify(made.url, None) for problem in check.problems] == []


def test_what_tables_have_lost_or_gained_since_is_counted(made: SimpleNamespace) -> None:
    selected(made, "duration_s.min=0.2")
    forget(made.url, plan_forget(made.url, ["2.mp4"]).targets)
    assert [(one.num_clips, one.counts["keep"]) for one in versions(made.dataset)] == [(4, 2), (4, 3), (3, 2)]
    assert checkout(made.url, 1).num_unlike == 0, "of what is forgotten, no version has a row"
    assert made.clips["2.mp4"] not in {row["clip_id"] for row in made.dataset.decisions.rows()}
    (film,) = (row for row in made.dataset.videos.rows() if row["uri"].endswith("/3.mp4"))
    made.dataset.videos.discard([(film["uri"], film["scan_key"])])
    assert checkout(made.url, 2).num_unlike == 1
    assert difference(made.dataset, 2, 5).left == (Move(why="not there", num_clips=1, seconds=0.5),)


def test_rows_of_a_version_that_was_never_published_count_for_none(made: SimpleNamespace) -> None:
    record(made.dataset, FOUND)
    clip = made.clips["1.mp4"]
    made.dataset.decisions.publish([{"clip_id": clip, "number": 2, "decision": "reject", "reasons": "x"}])
    selected(made, "duration_s.min=0.2")
    assert [one.number for one in versions(made.dataset)] == [1, 3]
    assert difference(made.dataset, 1, 3).left == ()


def test_a_checkout_without_the_scores_is_refused_and_changes_nothing(made: SimpleNamespace) -> None:
    made.dataset.save_section("curate", {**made.dataset.sections()["curate"], "families": ["motion-1"]})
    record(made.dataset, FOUND)
    before = (made.out / "config.yaml").read_bytes()
    with pytest.raises(ValueError, match="version 2 was decided with scores that are not there any more: motion-1"):
        checkout(made.url, 2)
    assert (made.out / "config.yaml").read_bytes() == before


def test_the_commands_say_it(made: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("versions", "decisions"):
        shutil.rmtree(made.out / "tables" / name)
    selected(made, "duration_s.min=0.2")
    for words in (["log"], ["diff", "1", "2", "--list"], ["checkout", "1"]):
        with pytest.raises(SystemExit) as ended:
            main([words[0], made.url, *words[1:]])
        assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "3 keep, 1 reject; 4.5 s kept" in said and f"command   {FOUND}" in said
    assert "2 has select.rules.duration_s.min=0.2" in said and f"+ {made.clips['3.mp4']}" in said
    assert "every clip is decided as in version 1" in said
