"""What a person judged of captions in the report: lines of review.jsonl → records of the family `human`."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from caption.plain_text import one_line, visible
from caption.provenance import Provenance
from caption.quality.base import RecordKey
from caption.record import Attempt, CaptionRecord, Finding
from curate.dataset.captions import CaptionLevel, CaptionStatus, text_id, text_name
from curate.dataset.judged import ACCEPTED, EDITED, HUMAN, REJECTED
from curate.schema import content_digest

PROMPT_IDS = {"accept": ACCEPTED, "reject": REJECTED, "edit": EDITED}


class Judgment(BaseModel):
    """A line of review.jsonl.

    Attributes:
        text: The new text of an edit.
        text_id: Names the text that was judged; None: there was none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    clip_id: str
    level: CaptionLevel
    variant: int = Field(0, ge=0)
    action: Literal["accept", "reject", "edit"]
    text: str | None = None
    text_id: str | None
    note: str = ""

    @property
    def key(self) -> RecordKey:
        return self.clip_id, self.level, self.variant

    @property
    def name(self) -> str:
        return f"clip {visible(self.clip_id)}, {text_name(self.level, self.variant)}"

    @property
    def reason(self) -> str:
        """The note without hidden characters."""
        return one_line(visible(self.note))

    @property
    def written(self) -> str:
        """The text of an edit without hidden characters."""
        return one_line(visible(self.text or ""))


@dataclass(frozen=True, kw_only=True, slots=True)
class Applied:
    """What became of the lines of a review.

    Attributes:
        records: New records.
        num_unchanged: Lines whose judgment is stored already.
        left_out: Line number and reason, of lines that no longer fit the dataset.
    """

    records: tuple[CaptionRecord, ...]
    num_unchanged: int
    left_out: tuple[tuple[int, str], ...]


def read_review(lines: Iterable[str], where: str) -> dict[int, Judgment]:
    """Line number → judgment; blank lines are left out.

    Args:
        lines: of the file.
        where: names the file in errors.

    Raises:
        ValueError: a line that is no judgment, or two that judge one text in two ways.
    """
    found: dict[int, Judgment] = {}
    first: dict[RecordKey, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        judgment = _judgment(line, f"{where}, line {number}")
        earlier = first.setdefault(judgment.key, number)
        if earlier != number and found[earlier] != judgment:
            raise ValueError(
                f"{where}, line {number}: {judgment.name} is judged otherwise in line {earlier}; "
                "expected one judgment of each text: remove one of the lines"
            )
        if earlier == number:
            found[number] = judgment
    return found


def _judgment(line: str, where: str) -> Judgment:
    expected = 'expected an object such as {"clip_id": …, "level": "dense", "action": "accept", "text_id": …}'
    try:
        value = json.loads(line)
        judgment = Judgment.model_validate(value)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: got {line.strip()[:60]!r}, which is not JSON ({error.msg}); {expected}") from error
    except RecursionError as error:
        raise ValueError(f"{where}: got JSON that is nested too deeply; {expected}") from error
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(map(str, first["loc"])) or "the line"
        raise ValueError(f"{where}: {at}: {first['msg']} (got {str(first['input'])[:60]!r}); {expected}") from error
    if judgment.action == "edit" and not judgment.written:
        raise ValueError(f"{where}: got an edit without a text; expected `text`")
    if judgment.action != "edit" and judgment.text_id is None:
        raise ValueError(
            f"{where}: got action {judgment.action} and no text_id (null); expected the `text_id` of the text that is "
            f"judged, as the report exports it; to replace {judgment.name}, action edit with `text`"
        )
    if judgment.action != "edit" and judgment.text is not None:
        raise ValueError(
            f"{where}: got action {judgment.action} and a text; expected no `text`, or action edit with the new text"
        )
    if judgment.level == "fields" and judgment.action == "edit" and not _is_object(judgment.written):
        raise ValueError(f"{where}: got {judgment.written[:60]!r}; expected a JSON object, as the level fields is")
    return judgment


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (json.JSONDecodeError, RecursionError):
        return False


def apply_review(
    judgments: Mapping[int, Judgment],
    clip_ids: frozenset[str],
    current: Mapping[RecordKey, str],
    stored: Mapping[RecordKey, Mapping[str, Any]],
) -> Applied:
    """The records of judgments of the texts that the dataset has now.

    Args:
        judgments: by line number.
        clip_ids: the indexed clips.
        current: texts with any status, as people judged and edited them so far.
        stored: rows of the review's table.
    """
    records, left_out, num_unchanged = [], [], 0
    for number, judgment in judgments.items():
        earlier = stored.get(judgment.key)
        record = _record(judgment, current.get(judgment.key), earlier)
        if judgment.clip_id not in clip_ids:
            left_out.append((number, f"{judgment.name}: the index has no such clip"))
        elif earlier is not None and _is_same(earlier, record):
            num_unchanged += 1
        elif reason := _misfit(judgment, current.get(judgment.key)):
            left_out.append((number, f"{judgment.name}: {reason}"))
        else:
            records.append(record)
    return Applied(records=tuple(records), num_unchanged=num_unchanged, left_out=tuple(left_out))


def _misfit(judgment: Judgment, text: str | None) -> str | None:
    """Why a judgment is not of the text that the clip has now; None: it is."""
    if text is None:
        return None if judgment.text_id is None else "the clip has no such caption now"
    if judgment.text_id != text_id(judgment.clip_id, judgment.level, text):
        return "the judged text is no longer the current one"
    return "there is no text to accept" if judgment.action == "accept" and not text else None


def _is_same(row: Mapping[str, Any], record: CaptionRecord) -> bool:
    """Whether a stored row says this already. To accept an edit changes nothing."""
    if row["prompt_id"] == EDITED and record.prompt_id == ACCEPTED:
        return bool(row["text"] == record.text)
    is_same_text = record.prompt_id != EDITED or row["text"] == record.text
    return is_same_text and row["prompt_id"] == record.prompt_id and tuple(row["parents"]) == record.parents


def _record(judgment: Judgment, text: str | None, earlier: Mapping[str, Any] | None) -> CaptionRecord:
    is_edit, prompt_id = judgment.action == "edit", PROMPT_IDS[judgment.action]
    findings: tuple[Finding, ...] = ()
    if judgment.action == "reject":
        detail = judgment.reason or "a person rejected the text"
        findings = (Finding(code="rejected_in_review", status=CaptionStatus.REJECTED, detail=detail),)
    return CaptionRecord(
        clip_id=judgment.clip_id,
        media_digest=None,
        level=judgment.level,
        variant=judgment.variant,
        text=judgment.written if is_edit else text or "",
        findings=findings,
        earlier=tuple(_earlier(earlier)) if earlier else (),
        parents=(judgment.text_id,) if judgment.text_id else (),
        finish_reason="stop" if is_edit else "not_asked",
        provenance=Provenance(
            backend=HUMAN, model=HUMAN, revision="", fingerprint=content_digest(HUMAN, prompt_id, judgment.written)
        ),
        prompt_id=prompt_id,
        prompt_hash=content_digest(prompt_id),
        prompt_text=judgment.reason,
        frame_indices=(),
        frame_times_s=(),
        max_tokens=0,
        num_prompt_tokens=0,
        num_output_tokens=0,
    )


def _earlier(row: Mapping[str, Any]) -> Iterator[Attempt]:
    """The judgments of other texts before this one. An edit that is judged itself no longer counts."""
    for attempt in row["earlier"] or ():
        yield Attempt(text=attempt["text"], codes=tuple(attempt["codes"]), remedies=tuple(attempt["remedies"]))
    if row["prompt_id"] != EDITED:
        yield Attempt(text=row["text"], codes=(row["prompt_id"],), remedies=())
