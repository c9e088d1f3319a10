"""Requests and answers in the form of OpenAI's chat completions."""

import base64
import io
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ValidationError

from caption.backends.base import CaptionResult, FailedRequest
from caption.backends.endpoint import message_of
from caption.backends.thinking import without_thinking
from curate.media.encode import encode_mp4
from curate.schema import FailureKind

FrameParts = Literal["images", "video_jpeg", "video_mp4"]
ImageFormat = Literal["jpeg", "png"]
ASSUMED_FPS = 2.0
"""Of a video whose frames have no times; what vLLM takes a list of JPEG frames for."""
LIMIT_REASONS = frozenset({"length", "max_tokens"})
FILTER_REASONS = frozenset({"content_filter", "safety", "prohibited_content", "blocklist", "recitation", "refusal"})
OTHER_REASONS = frozenset({"error", "abort", "cancelled", "tool_calls", "function_call"})
"""Why a server ends an answer. What is in none of these ends it because the model did, such as `stop`."""


def frame_parts(
    frames: np.ndarray,
    times_s: Sequence[float],
    *,
    as_: FrameParts,
    image_format: ImageFormat,
    jpeg_quality: int,
    max_side_px: int | None,
) -> list[dict[str, Any]]:
    """The frames as parts of a message.

    Args:
        frames: (T, H, W, 3) uint8 RGB in the order of time, T >= 1.
        times_s: of the frames; they decide the rate of an MP4.
        as_: one image a frame; or one video, as JPEG frames in one data URL (vLLM's form) or as MP4.
        image_format: of images; a video has JPEG frames.
        jpeg_quality: 1-100.
        max_side_px: larger frames are made smaller; None: they stay.
    """
    shown = _smaller(frames, max_side_px)
    if as_ == "video_mp4":
        return [_part("video", "video/mp4", _base64(encode_mp4(shown, _fps(times_s))))]
    if as_ == "video_jpeg":
        data = ",".join(_base64(_encoded(frame, "jpeg", jpeg_quality)) for frame in shown)
        return [_part("video", "video/jpeg", data)]
    return [
        _part("image", f"image/{image_format}", _base64(_encoded(frame, image_format, jpeg_quality)))
        for frame in shown
    ]


class _Usage(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Piece(BaseModel):
    text: str = ""


class _Message(BaseModel):
    content: str | list[_Piece] | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class Completion(BaseModel):
    """What counts in a chat completion. A server's further fields do not."""

    choices: list[_Choice]
    model: str | None = None
    system_fingerprint: str | None = None
    usage: _Usage | None = None


def outcome_of(answer: bytes, max_tokens: int) -> CaptionResult | FailedRequest:
    """What an answer with status 200 means for its request; `max_tokens` is the request's limit."""
    try:
        completion = Completion.model_validate_json(answer)
    except ValidationError:
        return FailedRequest(kind=FailureKind.MODEL, detail=f"the answer is no chat completion: {message_of(answer)}")
    if not completion.choices:
        return FailedRequest(kind=FailureKind.MODEL, detail="the answer has no choices")
    choice = completion.choices[0]
    reason = (choice.finish_reason or "").lower()
    if choice.message.refusal or reason in FILTER_REASONS:
        why = choice.message.refusal or f"the endpoint's filter ended the answer ({reason})"
        return FailedRequest(kind=FailureKind.REFUSED, detail=why)
    if reason in OTHER_REASONS:
        return FailedRequest(kind=FailureKind.MODEL, detail=f"the answer ended by {reason!r}; expected stop or length")
    content = choice.message.content or ""
    usage = completion.usage or _Usage()
    num_output = usage.completion_tokens or 0
    is_cut = reason in LIMIT_REASONS or (not reason and num_output >= max_tokens)
    return CaptionResult(
        text=without_thinking(content if isinstance(content, str) else "".join(piece.text for piece in content)),
        finish_reason="length" if is_cut else "stop",
        num_prompt_tokens=usage.prompt_tokens or 0,
        num_output_tokens=num_output,
        served_by=" ".join(filter(None, (completion.model, completion.system_fingerprint))),
    )


def _part(kind: str, media_type: str, data: str) -> dict[str, Any]:
    return {"type": f"{kind}_url", f"{kind}_url": {"url": f"data:{media_type};base64,{data}"}}


def _smaller(frames: np.ndarray, max_side_px: int | None) -> np.ndarray:
    from PIL import Image

    height, width = frames.shape[1:3]
    if max_side_px is None or max(height, width) <= max_side_px:
        return frames
    scale = max_side_px / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.stack([np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC)) for frame in frames])


def _encoded(frame: np.ndarray, image_format: ImageFormat, jpeg_quality: int) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    options = {"quality": jpeg_quality, "subsampling": 0} if image_format == "jpeg" else {"compress_level": 1}
    Image.fromarray(frame).save(buffer, image_format, **options)
    return buffer.getvalue()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _fps(times_s: Sequence[float]) -> Fraction:
    span_s = times_s[-1] - times_s[0] if len(times_s) > 1 else 0.0
    return Fraction((len(times_s) - 1) / span_s if span_s > 0 else ASSUMED_FPS).limit_denominator(1001)
