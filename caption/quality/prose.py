"""Checks of what a model writes in sentences."""

from collections.abc import Iterable

from caption.quality.base import Check, Evidence
from caption.record import CaptionRecord, Finding
from curate.dataset.captions import CaptionLevel

PROSE: tuple[CaptionLevel, ...] = ("short", "dense")


class ProseCheck(Check):
    """Checks texts of the levels `short` and `dense`. What the user or a person wrote is not checked."""

    def of_caption(self, record: CaptionRecord, evidence: Evidence) -> Iterable[Finding]:
        return self.of_text(record.text, record, evidence) if record.level in PROSE and record.text else ()

    def of_text(self, text: str, record: CaptionRecord, evidence: Evidence) -> Iterable[Finding]:
        """Findings in a text that is not empty."""
        raise NotImplementedError
