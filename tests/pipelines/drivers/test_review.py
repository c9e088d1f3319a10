"""review.jsonl on a dataset: the index has what people wrote and accepted, and not what they rejected."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from curate.dataset import current
from curate.dataset.captions import text_id
from curate.dataset.table import TableReader
from pipelines.cli import app
from pipelines.config import load_config
from pipelines.dataset import config_of
from pipelines.drivers.curate import curate
from pipelines.drivers.review import review
from pipelines.drivers.select import select
from tests.support.curated import SETTINGS, caption, copied, curated


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    made = curated(tmp_path_factory.mktemp("review"))
    caption(made.dataset)
    return made


@pytest.fixture
def made(films: SimpleNamespace, tmp_path: Path) -> SimpleNamespace:
    return copied(films, tmp_path)


def shorts(made: SimpleNamespace) -> list[str | None]:
    return made.dataset.read_index()["caption_short"].to_pylist()


def written(made: SimpleNamespace, *lines: dict[str, Any]) -> str:
    file = made.out.parent / "review.jsonl"
    file.write_text("".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines))
    return str(file)


def judgment(made: SimpleNamespace, number: int, action: str, **more: Any) -> dict[str, Any]:
    clip_id = made.dataset.read_index()["clip_id"][number].as_py()
    of_text = text_id(clip_id, "short", f"caption of {clip_id}")
    return {"clip_id": clip_id, "level": "short", "variant": 0, "action": action, "text_id": of_text, **more}


def test_the_index_has_the_edit_and_not_the_rejected_text(made: SimpleNamespace) -> None:
    lines = judgment(made, 0, "edit", text="A square\u2028moves"), judgment(made, 1, "reject")
    file = written(made, *lines)
    result = review(made.url, file)
    assert result.actions == {"review/edit": 1, "review/reject": 1}
    assert shorts(made) == ["A square moves", None]
    again = review(made.url, file)
    assert (again.actions, again.num_unchanged) == ({}, 2)
    assert shorts(made) == ["A square moves", None]


def test_captions_of_a_few_clips_are_those_of_all_and_nothing_else_is_read(
    made: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    review(made.url, written(made, judgment(made, 0, "edit", text="Another text"), judgment(made, 1, "reject")))
    index = made.dataset.read_index()
    with monkeypatch.context() as patch:
        patch.setattr(current, "FEW", -1)
        every = made.dataset.current_records(index).to_pylist()
    monkeypatch.setattr(TableReader, "in_order", None)
    assert sorted(row["text"] for row in every)[0] == "Another text" and len(every) == 2
    for row, clip_id in enumerate(index["clip_id"].to_pylist()):
        found = made.dataset.current_records(index.slice(row, 1)).to_pylist()
        assert found == [one for one in every if one["clip_id"] == clip_id]
    assert made.dataset.current_records(index).to_pylist() == every
    assert made.dataset.current_records(index[:0]).num_rows == 0


def test_an_edit_wins_over_another_captioner(made: SimpleNamespace) -> None:
    review(made.url, written(made, judgment(made, 0, "edit", text="A square moves"), judgment(made, 1, "reject")))
    rows = made.dataset.captions("test-1").rows()
    made.dataset.captions("test-2").publish([row | {"text": "a better caption"} for row in rows])
    made.dataset.save_section("caption_family", "test-2")
    made.dataset.write_index(config_of(made.dataset).shards.key)
    assert shorts(made) == ["A square moves", "a better caption"]


def test_an_edit_can_be_edited_and_rejecting_it_brings_back_what_the_captioner_wrote(made: SimpleNamespace) -> None:
    clip_id = made.dataset.read_index()["clip_id"][0].as_py()
    first, second = (judgment(made, 0, "edit", text=text) for text in ("A square moves", "A square moves right"))
    second["text_id"] = text_id(clip_id, "short", "A square moves")
    review(made.url, written(made, first))
    review(made.url, written(made, second))
    assert shorts(made)[0] == "A square moves right"
    assert review(made.url, written(made, second)).num_unchanged == 1
    (left_out,) = review(made.url, written(made, first)).left_out
    assert "no longer the current one" in left_out[1], "the first edit is of a text that is gone"
    rejected = judgment(made, 0, "reject", text_id=text_id(clip_id, "short", "A square moves right"))
    review(made.url, written(made, rejected))
    assert shorts(made)[0] == f"caption of {clip_id}"


def test_a_review_outlives_another_selection_and_another_cut(made: SimpleNamespace) -> None:
    review(made.url, written(made, judgment(made, 0, "edit", text="A square moves"), judgment(made, 1, "reject")))
    ids = made.dataset.read_index()["clip_id"].to_pylist()
    assert select(made.url, overrides=["select.rules.duration_s.min=2"]).num_indexed == 1
    select(made.url, overrides=["select.rules.duration_s.min=1"])
    assert shorts(made) == ["A square moves", None]
    curate([str(made.films)], made.url, load_config(overrides=[*SETTINGS, "shards.encode.crf=30"]))
    assert shorts(made) == ["A square moves", None]
    caption(made.dataset, family="test-3")
    assert made.dataset.read_index()["clip_id"].to_pylist() == ids
    assert shorts(made) == ["A square moves", None], "the captioner wrote the rejected text again"


def test_a_bad_line_stores_nothing(made: SimpleNamespace) -> None:
    before = shorts(made)
    with pytest.raises(ValueError, match=r"review.jsonl, line 2: level: "):
        review(made.url, written(made, judgment(made, 0, "reject"), judgment(made, 1, "reject", level="long")))
    with pytest.raises(ValueError, match="cannot be read"):
        review(made.url, str(made.out.parent / "gone.jsonl"))
    assert made.dataset.captions("human").rows() == []
    assert shorts(made) == before


def test_the_command_tells_what_it_left_out(made: SimpleNamespace) -> None:
    lines = judgment(made, 0, "accept"), judgment(made, 1, "reject", text_id="of an older text")
    result = CliRunner().invoke(app, ["caption", made.url, "--review", written(made, *lines)])
    assert result.exit_code == 1
    told = " ".join(result.output.split())
    assert "new: review/accept 1" in told
    assert "line 2 is left out" in told
    assert "no longer the current one" in told


def test_the_dataset_is_whole_after_a_review(made: SimpleNamespace) -> None:
    review(made.url, written(made, judgment(made, 0, "edit", text="A square moves"), judgment(made, 1, "reject")))
    for command in ("verify", "status", "report"):
        result = CliRunner().invoke(app, [command, made.url])
        assert result.exit_code == 0, (command, result.output, result.exception)
    clip_id = made.dataset.read_index()["clip_id"][0].as_py()
    assert "A square moves" in CliRunner().invoke(app, ["explain", made.url, clip_id]).output


def test_the_report_has_as_many_clips_to_judge_as_asked(made: SimpleNamespace) -> None:
    for number, expected in (("1", 1), ("60", 2)):
        assert CliRunner().invoke(app, ["report", made.url, "--clips", number]).exit_code == 0
        page = (made.out / "report/index.html").read_text()
        assert page.count('<article class="judged"') == expected
