"""Captions without a word."""

from collections.abc import Iterator

import numpy as np
from pydantic import BaseModel, ConfigDict

from caption.quality.base import Check
from caption.record import CaptionRecord, Finding
from curate.dataset.captions import CaptionStatus


class EmptyConfig(BaseModel):
    """Finds captions without text."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def build(self) -> Check:
        return EmptyCheck()


class EmptyCheck(Check):
    def of_caption(self, record: CaptionRecord, frames: np.ndarray) -> Iterator[Finding]:
        if not record.text:
            yield Finding(code="empty", status=CaptionStatus.EMPTY, detail="the model wrote nothing")
