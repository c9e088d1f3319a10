"""Captions without a word."""

from collections.abc import Iterator
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from caption.quality.base import Check, Evidence, Remedies
from caption.record import CaptionRecord, Finding, Remedy
from curate.dataset.captions import CaptionStatus


class EmptyConfig(BaseModel):
    """Finds captions without text."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def build(self) -> Check:
        return EmptyCheck()


class EmptyCheck(Check):
    """`empty`: another text is sampled."""

    remedies: ClassVar[Remedies] = {"empty": (Remedy.SEED,)}

    def of_caption(self, record: CaptionRecord, evidence: Evidence) -> Iterator[Finding]:
        if not record.text:
            yield Finding(
                code="empty", status=CaptionStatus.EMPTY, detail="the model wrote nothing", remedy=Remedy.SEED
            )
