"""Step: stored captions → their findings under other settings of the checks. No clip is decoded and no model is asked.

Checks of frames are in the captions' key. Those of texts and of the whole corpus are not: another bound must not cost
the captions.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa

from caption.backends.base import NO_FRAMES
from caption.config import CaptionConfig
from caption.facts import NOTHING_MEASURED, Facts
from caption.quality.base import Check, Evidence
from caption.quality.config import ChecksConfig
from caption.record import CaptionRecord, record_of, record_row
from curate.dataset.captions import USABLE
from curate.dataset.dataset import Dataset
from curate.schema import content_digest

SECTION = "caption_checks"
"""Of config.yaml: family → digest of the settings of the checks that its records were last judged by."""


def recheck(
    dataset: Dataset,
    settings: CaptionConfig,
    records: pa.Table,
    known: Callable[[], tuple[Mapping[str, Facts], Mapping[str, str]]],
) -> bool:
    """Judge the stored texts again where the settings of the checks are others than last time.

    Args:
        dataset: has the records.
        settings: of the captioner.
        records: its rows of `CAPTIONS`.
        known: gives, by clip id, what is measured of the clips, and the user's own text.

    Returns:
        Whether a record changed.
    """
    assert settings.family is not None
    judged = dataset.sections().get(SECTION, {})
    digest = content_digest("checks", settings.checks.model_dump_json())
    if judged.get(settings.family) == digest:
        return False
    changed = []
    if records.num_rows:
        checks = [check for check in settings.checks.build() if check.reads == "text"]
        for check in checks:
            check.setup()
        changed = list(_changed(records.to_pylist(), checks, *known()))
    dataset.check_writer()
    dataset.captions(settings.family).publish(map(record_row, changed))
    dataset.save_section(SECTION, {**judged, settings.family: digest})
    return bool(changed)


def _changed(
    rows: list[dict[str, Any]], checks: list[Check], facts: Mapping[str, Facts], originals: Mapping[str, str]
) -> Iterator[CaptionRecord]:
    """The records whose findings are others now. What an earlier reelpack wrote stays as it is."""
    renewed = {code for check in ChecksConfig().build() if check.reads != "frames" for code in check.remedies}
    fields = {row["clip_id"]: row["text"] for row in rows if row["level"] == "fields" and row["status"] in USABLE}
    for row in rows:
        if row["provenance"] is None or row["finish_reason"] == "not_asked" or row["level"] == "fields":
            continue
        record, clip_id = record_of(row), row["clip_id"]
        kept = tuple(finding for finding in record.findings if finding.code not in renewed)
        evidence = Evidence(
            frames=NO_FRAMES,
            facts=facts.get(clip_id, NOTHING_MEASURED),
            original=originals.get(clip_id),
            fields=fields.get(clip_id),
        )
        bare = replace(record, findings=kept)
        found = [finding for check in checks for finding in check.of_caption(bare, evidence)]
        judged = replace(bare, findings=(*kept, *found))
        if record_row(judged)["findings"] != record_row(record)["findings"]:
            yield judged
