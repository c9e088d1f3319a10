"""review.jsonl: bad lines are refused with their number; judgments count for the text that was judged."""

import json
from typing import Any

import pyarrow as pa
import pytest

from caption.record import CaptionRecord, record_row
from caption.review import Applied, Judgment, apply_review, read_review
from curate.dataset.captions import CaptionStatus, text_id
from curate.dataset.judged import judged
from curate.dataset.schemas import CAPTIONS

CLIPS = frozenset({"c1", "c2"})
COLUMNS = ["clip_id", "level", "variant", "text", "status"]


def line(action: str, judged_text: str | None, **changes: Any) -> dict[str, Any]:
    found = {"clip_id": "c1", "level": "dense", "variant": 0, "action": action}
    return found | {"text_id": judged_text and text_id("c1", "dense", judged_text)} | changes


class Stored:
    """The captions of one captioner, and the review's table."""

    def __init__(self, **texts: tuple[str, str]) -> None:
        self.by_captioner = {("c1", level, 0): told for level, told in texts.items()}
        self.human: dict[Any, dict[str, Any]] = {}

    def current(self) -> dict[Any, tuple[str, str]]:
        rows = [(*key, *told) for key, told in self.by_captioner.items()]
        captions = pa.Table.from_pylist([dict(zip(COLUMNS, row, strict=True)) for row in rows], self.schema)
        human = pa.Table.from_pylist(list(self.human.values()), CAPTIONS)
        found = judged(captions, human).to_pylist()
        return {(row["clip_id"], row["level"], row["variant"]): (row["text"], row["status"]) for row in found}

    schema = pa.schema([CAPTIONS.field(name) for name in COLUMNS])

    def apply(self, *lines: dict[str, Any]) -> Applied:
        judgments = read_review(map(json.dumps, lines), "review.jsonl")
        texts = {key: text for key, (text, _) in self.current().items()}
        applied = apply_review(judgments, CLIPS, texts, self.human)
        for record in applied.records:
            self.human[record.clip_id, record.level, record.variant] = row_of(record)
        return applied


def row_of(record: CaptionRecord) -> dict[str, Any]:
    return pa.Table.from_pylist([record_row(record)], CAPTIONS).to_pylist()[0]


DENSE = ("c1", "dense", 0)


def test_an_edit_stands_whatever_a_captioner_writes_later() -> None:
    stored = Stored(dense=("A dog.", "rejected"))
    stored.apply(line("edit", "A dog.", text="A fox."))
    assert stored.current()[DENSE] == ("A fox.", "ok")
    stored.by_captioner[DENSE] = ("A very good dog.", "ok")
    assert stored.current()[DENSE] == ("A fox.", "ok")


def test_a_rejection_hides_the_judged_text_alone() -> None:
    stored = Stored(dense=("A dog.", "ok"), short=("Dog", "ok"))
    stored.apply(line("reject", "A dog.", note="it is a fox"))
    assert stored.current() == {DENSE: ("A dog.", "rejected"), ("c1", "short", 0): ("Dog", "ok")}
    stored.by_captioner[DENSE] = ("A fox.", "ok")
    assert stored.current()[DENSE] == ("A fox.", "ok")
    stored.apply(line("reject", "A fox."))
    stored.by_captioner[DENSE] = ("A dog.", "ok")
    assert stored.current()[DENSE] == ("A dog.", "rejected"), "what was rejected first stays rejected"


def test_accepting_makes_a_rejected_text_usable_and_no_other() -> None:
    stored = Stored(dense=("A dog.", "rejected"))
    stored.apply(line("accept", "A dog."))
    assert stored.current()[DENSE] == ("A dog.", "ok")
    stored.by_captioner[DENSE] = ("A dog dog dog.", "rejected")
    assert stored.current()[DENSE] == ("A dog dog dog.", "rejected")


def test_the_same_file_twice_changes_nothing() -> None:
    stored = Stored(dense=("A dog.", "rejected"), short=("Dog", "ok"), original=("My dog", "ok"))
    lines = [
        line("edit", "A dog.", text="A fox."),
        line("reject", None, level="short", text_id=text_id("c1", "short", "Dog")),
        line("accept", None, level="original", text_id=text_id("c1", "original", "My dog")),
        line("edit", None, level="human", text="Mine."),
    ]
    assert len(stored.apply(*lines).records) == 4
    before = (stored.current(), dict(stored.human))
    again = stored.apply(*lines)
    assert (again.records, again.num_unchanged, again.left_out) == ((), 4, ())
    assert (stored.current(), stored.human) == before


def test_an_edit_can_be_judged_itself() -> None:
    stored = Stored(dense=("A dog.", "ok"))
    stored.apply(line("edit", "A dog.", text="A fox."))
    assert stored.apply(line("accept", "A fox.")).num_unchanged == 1
    assert stored.current()[DENSE] == ("A fox.", "ok")
    stored.apply(line("reject", "A fox."))
    assert stored.current()[DENSE] == ("A dog.", "ok")


def test_lines_that_no_longer_fit_are_listed_and_not_applied() -> None:
    stored = Stored(dense=("A newer dog.", "ok"), short=("", "empty"))
    applied = stored.apply(
        line("reject", "A dog."),
        line("accept", "x", clip_id="gone"),
        line("accept", None, level="short", text_id=text_id("c1", "short", "")),
        line("edit", "A dog.", text="B", variant=3),
    )
    assert not applied.records
    reasons = dict(applied.left_out)
    assert list(reasons) == [1, 2, 3, 4]
    assert "no longer the current one" in reasons[1]
    assert "no such clip" in reasons[2]
    assert "no text to accept" in reasons[3]
    assert "no such caption" in reasons[4]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nonsense", "got 'nonsense', which is not JSON"),
        ("[1]", "got '\\[1\\]'|valid dictionary"),
        ("[" * 20_000, "nested too deeply|not JSON"),
        (json.dumps(line("accept", "x", level="long")), "level: .*'short', 'dense'.* \\(got 'long'\\)"),
        (json.dumps(line("praise", "x")), "action: .* \\(got 'praise'\\)"),
        (json.dumps(line("edit", "x")), "an edit without a text"),
        (json.dumps(line("edit", "x", text=" \u200b\x00 ")), "an edit without a text"),
        (json.dumps(line("accept", "x", text="y")), "got action accept and a text; expected no `text`"),
        (json.dumps(line("accept", None)), "got action accept and no text_id .*expected the `text_id`"),
        (json.dumps(line("reject", None)), "got action reject and no text_id .*report exports it"),
        (json.dumps(line("edit", "x", level="fields", text="a dog")), "expected a JSON object"),
        (json.dumps(line("accept", "x", more=1)), "more: "),
        (json.dumps(line("accept", "x", variant=-1)), "variant: "),
    ],
)
def test_a_bad_line_is_refused_with_its_number_what_was_got_and_what_was_expected(text: str, told: str) -> None:
    good = json.dumps(line("accept", "x"))
    with pytest.raises(ValueError, match=rf"review.jsonl, line 3: .*({told}).*expected|line 3: .*({told})"):
        read_review([good, "", text], "review.jsonl")


def test_one_text_is_judged_in_one_way() -> None:
    lines = [json.dumps(line("accept", "x")), json.dumps(line("accept", "x")), json.dumps(line("reject", "x"))]
    assert list(read_review(lines[:2], "f")) == [1]
    with pytest.raises(ValueError, match="f, line 3: clip c1, dense is judged otherwise in line 1"):
        read_review(lines, "f")


def test_the_text_of_an_edit_has_no_hidden_characters() -> None:
    written = Judgment.model_validate(line("edit", "x", text=" A\u202e fox\n<b>runs</b>\x1b[0m "))
    assert written.written == "A fox <b>runs</b>"


def test_records_are_by_a_human_of_no_bytes() -> None:
    stored = Stored(dense=("A dog.", "ok"))
    (record,) = stored.apply(line("reject", "A dog.", note="a fox")).records
    assert (record.provenance.backend, record.provenance.model) == ("human", "human")
    assert record.media_digest is None
    assert record.status is CaptionStatus.REJECTED
    assert record.findings[0].detail == "a fox"
