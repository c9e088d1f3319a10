"""What a person judged of captions in the report: lines of review.jsonl → records of the family `human`."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from caption.plain_text import one_line, visible
from caption.provenance import Provenance
from caption.record import Attempt, CaptionRecord, Finding
from curate.dataset.captions import CaptionLevel, CaptionStatus, text_id, text_name
from curate.dataset.judged import ACCEPTED, EDITED, HUMAN, REJECTED
from curate.schema import content_digest

PROMPT_IDS = {"accept": ACCEPTED, "reject": REJECTED, "edit": EDITED}
Key = tuple[str, str, int]
"""`clip_id`, `level`, `variant`."""


class Judgement(BaseModel):
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
    def key(self) -> Key:
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
        num_unchanged: Lines whose judgement is stored already.
        left_out: Line number and reason, of lines that no longer fit the dataset.
    """

    records: tuple[CaptionRecord, ...]
    num_unchanged: int
    left_out: tuple[tuple[int, str], ...]


def read_review(lines: Iterable[str], where: str) -> dict[int, Judgement]:
    """Line number → judgement; blank lines are left out.

    Args:
        lines: of the file.
        where: names the file in errors.

    Raises:
        ValueError: a line that is no judgement, or two that judge one text in two ways.
    """
    found: dict[int, Judgement] = {}
    first: dict[Key, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        judgement = _judgement(line, f"{where}, line {number}")
        earlier = first.setdefault(judgement.key, number)
        if earlier != number and found[earlier] != judgement:
            raise ValueError(
                f"{where}, line {number}: {judgement.name} is judged otherwise in line {earlier}; "
                "expected one judgement of each text: remove one of the lines"
            )
        if earlier == number:
            found[number] = judgement
    return found


def _judgement(line: str, where: str) -> Judgement:
    expected = 'expected an object such as {"clip_id": …, "level": "dense", "action": "accept", "text_id": …}'
    try:
        value = json.loads(line)
        judgement = Judgement.model_validate(value)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: got {line.strip()[:60]!r}, which is not JSON ({error.msg}); {expected}") from error
    except RecursionError as error:
        raise ValueError(f"{where}: got JSON that is nested too deeply; {expected}") from error
    except ValidationError as error:
        told = error.errors()[0]
        at = ".".join(map(str, told["loc"])) or "the line"
        raise ValueError(f"{where}: {at}: {told['msg']} (got {str(told['input'])[:60]!r}); {expected}") from error
    if judgement.action == "edit" and not judgement.written:
        raise ValueError(f"{where}: got an edit without a text; expected `text`")
    if judgement.action != "edit" and (judgement.text is not None or judgement.text_id is None):
        raise ValueError(f"{where}: got action {judgement.action}; expected `text_id` and no `text`")
    if judgement.level == "fields" and judgement.action == "edit" and not _is_object(judgement.written):
        raise ValueError(f"{where}: got {judgement.written[:60]!r}; expected a JSON object, as the level fields is")
    return judgement


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (json.JSONDecodeError, RecursionError):
        return False


def apply_review(
    judgements: Mapping[int, Judgement],
    clip_ids: frozenset[str],
    current: Mapping[Key, str],
    stored: Mapping[Key, Mapping[str, Any]],
) -> Applied:
    """The records of judgements of the texts that the dataset has now.

    Args:
        judgements: by line number.
        clip_ids: the indexed clips.
        current: texts with any status, as people judged and edited them so far.
        stored: rows of the review's table.
    """
    records, left_out, num_unchanged = [], [], 0
    for number, judgement in judgements.items():
        earlier = stored.get(judgement.key)
        record = _record(judgement, current.get(judgement.key), earlier)
        if judgement.clip_id not in clip_ids:
            left_out.append((number, f"{judgement.name}: the index has no such clip"))
        elif earlier is not None and _is_same(earlier, record):
            num_unchanged += 1
        elif reason := _misfit(judgement, current.get(judgement.key)):
            left_out.append((number, f"{judgement.name}: {reason}"))
        else:
            records.append(record)
    return Applied(records=tuple(records), num_unchanged=num_unchanged, left_out=tuple(left_out))


def _misfit(judgement: Judgement, text: str | None) -> str | None:
    """Why a judgement is not of the text that the clip has now; None: it is."""
    if text is None:
        return None if judgement.text_id is None else "the clip has no such caption now"
    if judgement.text_id != text_id(judgement.clip_id, judgement.level, text):
        return "the judged text is no longer the current one"
    return "there is no text to accept" if judgement.action == "accept" and not text else None


def _is_same(row: Mapping[str, Any], record: CaptionRecord) -> bool:
    """Whether a stored row says this already. To accept an edit changes nothing."""
    if row["prompt_id"] == EDITED and record.prompt_id == ACCEPTED:
        return bool(row["text"] == record.text)
    is_same_text = record.prompt_id != EDITED or row["text"] == record.text
    return is_same_text and row["prompt_id"] == record.prompt_id and tuple(row["parents"]) == record.parents


def _record(judgement: Judgement, text: str | None, earlier: Mapping[str, Any] | None) -> CaptionRecord:
    is_edit, prompt_id = judgement.action == "edit", PROMPT_IDS[judgement.action]
    findings: tuple[Finding, ...] = ()
    if judgement.action == "reject":
        detail = judgement.reason or "a person rejected the text"
        findings = (Finding(code="rejected_in_review", status=CaptionStatus.REJECTED, detail=detail),)
    return CaptionRecord(
        clip_id=judgement.clip_id,
        media_digest=None,
        level=judgement.level,
        variant=judgement.variant,
        text=judgement.written if is_edit else text or "",
        findings=findings,
        earlier=tuple(_earlier(earlier)) if earlier else (),
        parents=(judgement.text_id,) if judgement.text_id else (),
        finish_reason="stop" if is_edit else "not_asked",
        provenance=Provenance(
            backend=HUMAN, model=HUMAN, revision="", fingerprint=content_digest(HUMAN, prompt_id, judgement.written)
        ),
        prompt_id=prompt_id,
        prompt_hash=content_digest(prompt_id),
        prompt_text=judgement.reason,
        frame_indices=(),
        frame_times_s=(),
        max_tokens=0,
        num_prompt_tokens=0,
        num_output_tokens=0,
    )


def _earlier(row: Mapping[str, Any]) -> Iterator[Attempt]:
    """The judgements of other texts before this one. An edit that is judged itself no longer counts."""
    for attempt in row["earlier"] or ():
        yield Attempt(text=attempt["text"], codes=tuple(attempt["codes"]), remedies=tuple(attempt["remedies"]))
    if row["prompt_id"] != EDITED:
        yield Attempt(text=row["text"], codes=(row["prompt_id"],), remedies=())
