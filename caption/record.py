"""The caption record: one row per clip and kind: what wrote the text, from which frames, how it ended."""

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Literal

import pyarrow as pa

from curate.shards.tar import payload_digest

CaptionKind = Literal["short", "dense"]


class CaptionStatus(StrEnum):
    """How a caption ended. A truncated one is used, and says here that it is unfinished; the others have no text."""

    OK = "ok"
    TRUNCATED = "truncated"
    EMPTY = "empty"
    BLANK = "blank"
    """The frames show nothing: the model was not asked."""
    UNSURE = "unsure"
    """The model does not know what such frames show: it was not asked."""


USABLE = frozenset({CaptionStatus.OK, CaptionStatus.TRUNCATED})
"""Those whose text is used."""


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


CAPTION_SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("media_digest", pa.string()),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("finish_reason", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("weights", pa.string(), nullable=False),
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("prompt_hash", pa.string(), nullable=False),
        pa.field("prompt_text", pa.string(), nullable=False),
        pa.field("frame_indices", pa.list_(pa.int64()), nullable=False),
        pa.field("frame_times_s", pa.list_(pa.float64()), nullable=False),
        pa.field("sampling", pa.string(), nullable=False),
        pa.field("num_prompt_tokens", pa.int64(), nullable=False),
        pa.field("num_output_tokens", pa.int64(), nullable=False),
        pa.field("seed", pa.int64()),
        pa.field("libraries", pa.string()),
    ]
)
"""Rows of `tables/captions/<name>-<hash>/`, unique by `clip_id` and `kind`."""


def record_row(record: CaptionRecord) -> dict[str, Any]:
    """A row of `CAPTION_SCHEMA`."""
    row = {field.name: getattr(record, field.name) for field in fields(record)}
    return row | {
        "status": str(record.status),
        "frame_indices": list(record.frame_indices),
        "frame_times_s": list(record.frame_times_s),
    }


def media_digest(data: bytes) -> str:
    """Names a clip's file by its bytes, as the table of shards does."""
    return payload_digest(data)
