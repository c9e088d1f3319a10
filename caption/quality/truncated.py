"""Captions that end at the token limit."""

from collections.abc import Iterator

import numpy as np
from pydantic import BaseModel, ConfigDict

from caption.quality.base import Check
from caption.record import CaptionRecord, Finding
from curate.dataset.captions import CaptionStatus


class TruncatedConfig(BaseModel):
    """Finds captions that the token limit cuts off. Their text is used."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def build(self) -> Check:
        return TruncatedCheck()


class TruncatedCheck(Check):
    def of_caption(self, record: CaptionRecord, frames: np.ndarray) -> Iterator[Finding]:
        if record.finish_reason == "length":
            detail = f"not finished after {record.max_tokens} tokens"
            yield Finding(code="truncated", status=CaptionStatus.TRUNCATED, detail=detail)
