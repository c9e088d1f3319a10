import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from caption.backends.base import CaptionRequest, CaptionResult, FailedRequest
from caption.finetune.config import InstructionsConfig
from caption.finetune.instructions import FILE, SCHEMA, Turn, checked, make_instructions, read_instructions
from caption.provenance import Provenance
from curate.schema import FailureKind

FIELDS = json.dumps({"subjects": ["two red rabbits"], "actions": ["A rabbit jumps over 3 logs"], "scene": "a meadow"})
GOOD = {"question": "What jumps?", "answer": "A red rabbit jumps over 3 logs."}
CONFIG = InstructionsConfig.model_validate({"backend": {"kind": "embedded"}, "kinds": ["conversation", "reasoning"]})


def answer(*turns: Any) -> str:
    return json.dumps({"turns": turns})


@pytest.mark.parametrize(
    "text",
    [
        answer(GOOD),
        f"Sure, here it is:\n```json\n{answer(GOOD)}\n```",
        f"<think>{answer({'question': 'no?', 'answer': 'rabbits'})}</think>{answer(GOOD)}",
        json.dumps([GOOD]),
        answer(GOOD, GOOD)[:-30],  # cut off within the second one
    ],
)
def test_turns_are_read_from_any_text_that_holds_closed_ones(text: str) -> None:
    assert checked(text, FIELDS)[0] == (Turn(**GOOD),)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("I cannot help with that.", "unreadable"),
        (answer(), "unreadable"),
        (answer(GOOD)[:40], "unreadable"),
        (answer({"question": 1, "answer": ["rabbit"]}), "unreadable"),
        ('{"turns": ' + "[" * 100_000, "unreadable"),
        (answer({**GOOD, "answer": " \u200b\n"}), "empty"),
        (answer({**GOOD, "question": ""}), "empty"),
        (answer({**GOOD, "answer": "A dog barks at the postman."}), "not_about_fields"),
        (answer({**GOOD, "answer": "The notes say that a rabbit jumps."}), "names_source"),
        (answer({**GOOD, "answer": "The rabbit's color is not specified."}), "names_source"),
        (answer({**GOOD, "answer": "A rabbit jumps over 4 logs."}), "unknown_number"),
    ],
)
def test_what_is_not_about_the_fields_is_not_used(text: str, reason: str) -> None:
    assert checked(text, FIELDS) == ((), {reason: 1})


def test_a_question_counts_once() -> None:
    turns, rejected = checked(answer(GOOD, {**GOOD, "question": "what JUMPS?"}), FIELDS)
    assert turns == (Turn(**GOOD),) and rejected == {"repeated": 1}


class Writer:
    """A language model that answers every request with one text, and fails for the clips that are named."""

    checks = ()
    num_in_flight = 0

    def __init__(self, text: str = answer(GOOD), failing: Sequence[str] = (), model: str = "one") -> None:
        self.text, self.failing = text, failing
        self.provenance = Provenance(backend="test", model=model, revision="", fingerprint=model)
        self.asked: list[CaptionRequest] = []

    def setup(self) -> None: ...

    def caption(self, requests: Sequence[CaptionRequest]) -> list[CaptionResult | FailedRequest]:
        self.asked += requests
        return [
            FailedRequest(kind=FailureKind.TIMEOUT, detail="slow")
            if any(name in request.prompt for name in self.failing)
            else CaptionResult(text=self.text, finish_reason="stop", num_prompt_tokens=1, num_output_tokens=1)
            for request in requests
        ]


FIELDS_OF = {name: FIELDS.replace("meadow", f"meadow {name}") for name in ("a", "b", "c")}


def test_the_model_sees_fields_and_no_frames(tmp_path: Path) -> None:
    writer = Writer()
    made, failures = make_instructions(FIELDS_OF, CONFIG, writer, tmp_path)
    assert [(one.clip_id, one.kind) for one in made] == [(n, k) for n in "abc" for k in CONFIG.kinds] and not failures
    assert len(writer.asked) == 6
    for request in writer.asked:
        assert len(request.frames) == 0 and request.schema == SCHEMA and "two red rabbits" in request.prompt
    assert read_instructions(tmp_path / FILE) == made


@pytest.mark.parametrize("num_in_flight", [0, 3])
def test_another_run_asks_what_failed_and_nothing_else(tmp_path: Path, num_in_flight: int) -> None:
    first, second = Writer(failing=["meadow b"]), Writer()
    first.num_in_flight = second.num_in_flight = num_in_flight
    made, failures = make_instructions(FIELDS_OF, CONFIG, first, tmp_path)
    assert {one.clip_id for one in made} == {"a", "c"} and [one.detail for one in failures] == ["slow"] * 2
    again, _ = make_instructions(FIELDS_OF, CONFIG, second, tmp_path)
    assert [one.clip_id for one in again] == ["a", "a", "b", "b", "c", "c"]
    assert len(second.asked) == 2 and all("meadow b" in request.prompt for request in second.asked)


def test_a_line_that_a_killed_run_cut_off_is_asked_again(tmp_path: Path) -> None:
    made, _ = make_instructions(FIELDS_OF, CONFIG, Writer(), tmp_path)
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:-20])
    writer = Writer()
    assert make_instructions(FIELDS_OF, CONFIG, writer, tmp_path)[0] == made
    assert len(writer.asked) == 1 and read_instructions(path) == made


@pytest.mark.parametrize("change", ["fields", "model"])
def test_changed_fields_and_another_model_ask_again(tmp_path: Path, change: str) -> None:
    make_instructions(FIELDS_OF, CONFIG, Writer(), tmp_path)
    writer = Writer(model="two" if change == "model" else "one")
    fields = FIELDS_OF if change == "model" else FIELDS_OF | {"a": FIELDS}
    make_instructions(fields, CONFIG, writer, tmp_path)
    assert len(writer.asked) == (6 if change == "model" else 2)
