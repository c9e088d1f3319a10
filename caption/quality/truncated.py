"""Captions that end at the token limit."""

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict, Field

from caption.quality.base import Check, Evidence
from caption.record import CaptionRecord, Finding, Remedy
from curate.dataset.captions import CaptionStatus


class TruncatedConfig(BaseModel):
    """Finds captions that the token limit cuts off."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    use: bool = Field(False, description="use the text of those that every attempt cuts off")

    def build(self) -> Check:
        return TruncatedCheck(self)


class TruncatedCheck(Check):
    def __init__(self, config: TruncatedConfig) -> None:
        self.config = config

    def of_caption(self, record: CaptionRecord, evidence: Evidence) -> Iterator[Finding]:
        if record.finish_reason == "length":
            detail = f"not finished after {record.max_tokens} tokens"
            status = CaptionStatus.OK if self.config.use else CaptionStatus.TRUNCATED
            yield Finding(code="truncated", status=status, detail=detail, remedy=Remedy.TOKENS)
