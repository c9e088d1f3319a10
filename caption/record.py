"""The caption record: one row per clip, level and variant. It holds the text, its provenance, its frames, its
findings, and the attempts before it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

from caption.provenance import Provenance
from curate.dataset.captions import CaptionLevel, CaptionStatus
from curate.shards.tar import payload_digest


class Remedy(StrEnum):
    """What another attempt changes."""

    PROMPT = "prompt"
    """The finding's instruction is added to the prompt."""
    SEED = "seed"
    """The text is sampled, with a seed of its own."""
    PENALTY = "penalty"
    """Tokens that were written become less likely."""
    TOKENS = "tokens"
    """Twice the token limit."""
    FRAMES = "frames"
    """Other frames of the clip, and twice as many."""
    BACKEND = "backend"
    """`caption.fallback` is asked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What a check finds.

    Attributes:
        code: Reason code, snake_case. Equal for all clips with this fault.
        status: Status that a caption with this finding has, unless another finding is worse.
        detail: A sentence for the reader, with its figures in parentheses at the end: counts leave them out.
        remedy: What another attempt changes; None: no other attempt can help.
        instruction: For the remedy `prompt`: what is added to the prompt, a full sentence.
        value: The number that was measured, where the check stores one.
    """

    code: str
    status: CaptionStatus
    detail: str
    remedy: Remedy | None = None
    instruction: str = ""
    value: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """A text that did not pass: the codes of its findings, and the remedies that were applied to it."""

    text: str
    codes: tuple[str, ...]
    remedies: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """The caption of a part of a long clip, seconds from the clip's start."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionRecord:
    """One caption.

    Attributes:
        clip_id: The clip that it describes.
        media_digest: Digest of the clip's bytes that the model was shown. `verify` compares it. None: the text is not
            of these bytes, but the user's own or a person's.
        level: Which of the clip's captions it is.
        variant: 0, or the number of a variant that was composed from the fields.
        text: What the model wrote, without control tokens and surrounding white space.
        findings: What the checks found in the text, in their order.
        attempt: Number of the attempt that gave the text, from 1 on; 0 where no model was asked.
        earlier: The attempts before it.
        parents: `text_id` of the texts that it was composed from.
        windows: Captions of the parts that it was merged from, in the order of time.
        finish_reason: `stop` where the model ended the text, `length` at the token limit, `composed` where no model
            wrote it, `not_asked`.
        provenance: What wrote the text.
        prompt_id, prompt_hash, prompt_text: The prompt: versioned name, digest of its template, and in full.
        frame_indices: Numbers of the frames shown to the model, within the clip.
        frame_times_s: Their times, seconds from the clip's start.
        max_tokens: Limit of the text, in the model's tokens.
        num_prompt_tokens, num_output_tokens: Lengths in the model's tokens, images and end token included.
    """

    clip_id: str
    media_digest: str | None
    level: CaptionLevel
    variant: int = 0
    text: str
    findings: tuple[Finding, ...] = ()
    attempt: int = 1
    earlier: tuple[Attempt, ...] = ()
    parents: tuple[str, ...] = ()
    windows: tuple[Window, ...] = ()
    finish_reason: str
    provenance: Provenance
    prompt_id: str
    prompt_hash: str
    prompt_text: str
    frame_indices: tuple[int, ...]
    frame_times_s: tuple[float, ...]
    max_tokens: int
    num_prompt_tokens: int
    num_output_tokens: int

    @property
    def status(self) -> CaptionStatus:
        """The worst status among the findings; OK without any."""
        return status_of(self.findings)


def status_of(findings: tuple[Finding, ...]) -> CaptionStatus:
    """The worst status among the findings; OK without any."""
    return max((finding.status for finding in findings), key=rank_of, default=CaptionStatus.OK)


def rank_of(status: CaptionStatus) -> int:
    """0 for the best status; a worse one has a higher rank."""
    return list(CaptionStatus).index(status)


def record_row(record: CaptionRecord) -> dict[str, Any]:
    """A row of `CAPTIONS`."""
    row = {field.name: getattr(record, field.name) for field in fields(record)}
    provenance = asdict(record.provenance)
    as_json = {name: json.dumps(provenance[name], sort_keys=True) for name in ("parameters", "libraries")}
    return row | {
        "status": str(record.status),
        "findings": [finding_row(finding) for finding in record.findings],
        "earlier": [asdict(attempt) for attempt in record.earlier],
        "parents": list(record.parents),
        "windows": [asdict(window) for window in record.windows],
        "provenance": provenance | as_json,
        "frame_indices": list(record.frame_indices),
        "frame_times_s": list(record.frame_times_s),
    }


def finding_row(finding: Finding) -> dict[str, str | float | None]:
    """A finding in a row of `CAPTIONS`."""
    remedy = finding.remedy and str(finding.remedy)
    facts = {"code": finding.code, "status": str(finding.status), "detail": finding.detail}
    return facts | {"remedy": remedy, "value": finding.value}


def record_of(row: Mapping[str, Any]) -> CaptionRecord:
    """The record of a row of `CAPTIONS`: the inverse of `record_row`, without instructions, which are not stored."""
    given = {field.name: row[field.name] for field in fields(CaptionRecord)}
    provenance = dict(row["provenance"])
    as_values = {name: json.loads(provenance[name] or "{}") for name in ("parameters", "libraries")}
    return CaptionRecord(
        **given
        | {
            "findings": tuple(map(finding_of, row["findings"] or ())),
            "earlier": tuple(map(attempt_of, row["earlier"] or ())),
            "parents": tuple(row["parents"] or ()),
            "windows": tuple(Window(**window) for window in row["windows"] or ()),
            "provenance": Provenance(**provenance | as_values),
            "frame_indices": tuple(row["frame_indices"]),
            "frame_times_s": tuple(row["frame_times_s"]),
        }
    )


def attempt_of(row: Mapping[str, Any]) -> Attempt:
    """The attempt in a row of `CAPTIONS`."""
    return Attempt(text=row["text"], codes=tuple(row["codes"]), remedies=tuple(row["remedies"]))


def finding_of(row: Mapping[str, Any]) -> Finding:
    """The finding in a row of `CAPTIONS`."""
    remedy = row.get("remedy")
    return Finding(
        code=row["code"],
        status=CaptionStatus(row["status"]),
        detail=row["detail"],
        remedy=Remedy(remedy) if remedy else None,
        value=row.get("value"),
    )


def media_digest(data: bytes) -> str:
    """Names a clip's file by its bytes, as the table of shards does."""
    return payload_digest(data)
