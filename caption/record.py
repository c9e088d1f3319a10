"""The caption record: one row per clip and kind: what wrote the text, from which frames, how it ended."""

from dataclasses import dataclass, fields
from typing import Any

from curate.dataset.captions import CaptionKind, CaptionStatus
from curate.shards.tar import payload_digest


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionRecord:
    """One caption.

    Attributes:
        clip_id: The clip it was written for.
        media_digest: Of the clip's bytes that the model was shown: `verify` tells by it a caption on the wrong clip.
        kind: Which of the clip's captions it is.
        text: What the model wrote, control tokens and surrounding white space removed.
        status: How it ended, and `reason` says why where that is not OK.
        finish_reason: `stop` where the model ended by itself, `length` where it met the limit, `not_asked`.
        model: Name of the model as configured.
        weights: Digest of its weights, or revision of a hub id: what `model` meant on that day.
        prompt_id, prompt_hash, prompt_text: The prompt, by versioned name, digest, and in full.
        frame_indices: Numbers of the frames shown to the model, within the clip.
        frame_times_s: When they are shown, seconds from the clip's start.
        sampling: Generation settings as applied, JSON.
        num_prompt_tokens, num_output_tokens: Lengths in the model's tokens, pictures and end token included.
        seed: Of the sampling; None where decoding is greedy.
        libraries: Versions of what ran it, JSON; they are no part of the captions' key.
    """

    clip_id: str
    media_digest: str
    kind: CaptionKind
    text: str
    status: CaptionStatus
    reason: str | None
    finish_reason: str
    model: str
    weights: str
    prompt_id: str
    prompt_hash: str
    prompt_text: str
    frame_indices: tuple[int, ...]
    frame_times_s: tuple[float, ...]
    sampling: str
    num_prompt_tokens: int
    num_output_tokens: int
    seed: int | None
    libraries: str


def record_row(record: CaptionRecord) -> dict[str, Any]:
    """A row of `CAPTIONS`."""
    row = {field.name: getattr(record, field.name) for field in fields(record)}
    return row | {
        "status": str(record.status),
        "frame_indices": list(record.frame_indices),
        "frame_times_s": list(record.frame_times_s),
    }


def media_digest(data: bytes) -> str:
    """Names a clip's file by its bytes, as the table of shards does."""
    return payload_digest(data)
