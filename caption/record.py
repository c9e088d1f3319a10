"""The caption record: one row per clip and kind. It holds the text, its provenance, its frames and its findings."""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from caption.provenance import Provenance
from curate.dataset.captions import CaptionKind, CaptionStatus
from curate.shards.tar import payload_digest


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What a check finds.

    Attributes:
        code: Reason code, snake_case. Equal for all clips with this fault.
        status: Status that a caption with this finding has, unless another finding is worse.
        detail: A sentence for the reader, with its figures in parentheses at the end: counts leave them out.
    """

    code: str
    status: CaptionStatus
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionRecord:
    """One caption.

    Attributes:
        clip_id: The clip that it describes.
        media_digest: Digest of the clip's bytes that the model was shown. `verify` compares it.
        kind: Which of the clip's captions it is.
        text: What the model wrote, without control tokens and surrounding white space.
        findings: What the checks found, in their order.
        finish_reason: `stop` where the model ended the text, `length` at the token limit, `not_asked`.
        provenance: What wrote the text.
        prompt_id, prompt_hash, prompt_text: The prompt: versioned name, digest, and in full.
        frame_indices: Numbers of the frames shown to the model, within the clip.
        frame_times_s: Their times, seconds from the clip's start.
        max_tokens: Limit of the text, in the model's tokens.
        num_prompt_tokens, num_output_tokens: Lengths in the model's tokens, images and end token included.
    """

    clip_id: str
    media_digest: str
    kind: CaptionKind
    text: str
    findings: tuple[Finding, ...] = ()
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
    """The worst status among the findings; OK without any. `CaptionStatus` lists them from the best to the worst."""
    found = {finding.status for finding in findings}
    return max(found, key=list(CaptionStatus).index, default=CaptionStatus.OK)


def record_row(record: CaptionRecord) -> dict[str, Any]:
    """A row of `CAPTIONS`."""
    row = {field.name: getattr(record, field.name) for field in fields(record)}
    provenance = asdict(record.provenance)
    as_json = {name: json.dumps(provenance[name], sort_keys=True) for name in ("parameters", "libraries")}
    return row | {
        "status": str(record.status),
        "findings": [asdict(finding) | {"status": str(finding.status)} for finding in record.findings],
        "provenance": provenance | as_json,
        "frame_indices": list(record.frame_indices),
        "frame_times_s": list(record.frame_times_s),
    }


def media_digest(data: bytes) -> str:
    """Names a clip's file by its bytes, as the table of shards does."""
    return payload_digest(data)
