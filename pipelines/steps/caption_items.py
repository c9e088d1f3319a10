"""What a captioner has to do: the clips of the index, the captions that each lacks, and what is known of them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from caption.config import CaptionConfig
from caption.facts import Facts, facts_of
from caption.item import CaptionItem
from caption.record import Attempt, attempt_of
from curate.dataset.captions import USABLE, CaptionLevel
from curate.dataset.dataset import Dataset
from curate.dataset.schemas import CAPTIONS
from curate.dataset.sources import SOURCE, of_current
from curate.dataset.table import left_join
from curate.signals.config import SIGNAL_NAMES

Records = Mapping[str, Mapping[CaptionLevel, Mapping[str, Any]]]
"""Clip id → level → row of tables/captions."""


def stored_records(
    dataset: Dataset, family: str | None, index: pa.Table, columns: Sequence[str] | None = None
) -> pa.Table:
    """The captioner's records of the clips as they are cut now; none without a captioner."""
    if family is None:
        return CAPTIONS.empty_table()
    return of_current(dataset.captions(family).read(columns and [*columns, SOURCE]), index)


def by_clip(records: Iterable[Mapping[str, Any]]) -> Records:
    """The records that are no variants."""
    stored: dict[str, dict[CaptionLevel, Mapping[str, Any]]] = defaultdict(dict)
    for record in records:
        if not record["variant"]:
            stored[record["clip_id"]][record["level"]] = record
    return stored


def wanted_levels(
    settings: CaptionConfig, index: pa.Table, stored: Records, again: Records
) -> dict[str, tuple[CaptionLevel, ...]]:
    """Clip id → levels to write: those without a record, and those to attempt again."""
    wanted = {}
    for clip_id in index["clip_id"].to_pylist():
        found = stored.get(clip_id, {})
        levels = tuple(
            level for level in settings.prompt_set.levels if level not in found or level in again.get(clip_id, {})
        )
        if levels:
            wanted[clip_id] = levels
    return wanted


def items_of(
    dataset: Dataset, index: pa.Table, wanted: Mapping[str, tuple[CaptionLevel, ...]], stored: Records
) -> list[CaptionItem]:
    """Items for these levels of these clips, with what is measured of the clips and known of their captions."""
    facts, originals = known_of(dataset, index)
    items = []
    for row in index.to_pylist():
        if (clip_id := row["clip_id"]) not in wanted:
            continue
        found = stored.get(clip_id, {})
        fields = found.get("fields")
        items.append(
            CaptionItem(
                **{name: row[name] for name in ("clip_id", "shard", "offset", "size", "kind", "digest")},
                facts=facts[clip_id],
                original=originals.get(clip_id),
                levels=wanted[clip_id],
                fields=fields["text"] if fields and fields["status"] in USABLE else None,
                earlier={level: attempts_of(found[level]) for level in wanted[clip_id] if level in found},
            )
        )
    return items


def known_of(dataset: Dataset, index: pa.Table) -> tuple[dict[str, Facts], dict[str, str]]:
    """By clip id, what is measured of the clips, and the user's own text where there is one that can be used."""
    clips = dataset.read_clips()
    signals = [name for name in SIGNAL_NAMES if name in clips.column_names]
    rows = left_join(index, clips.select(["clip_id", *signals]), "clip_id").to_pylist()
    texts = dataset.texts(index)
    originals = texts.filter(pc.equal(texts["level"], "original"))
    text_of = dict(zip(originals["clip_id"].to_pylist(), originals["text"].to_pylist(), strict=True))
    return {row["clip_id"]: facts_of(row) for row in rows}, text_of


def attempts_of(record: Mapping[str, Any]) -> tuple[Attempt, ...]:
    """The attempts of a stored record, itself the last."""
    findings = record["findings"] or ()
    itself = {
        "text": record["text"],
        "codes": [finding["code"] for finding in findings],
        "remedies": [finding["remedy"] for finding in findings if finding["remedy"]],
    }
    return tuple(map(attempt_of, (*(record["earlier"] or ()), itself)))
