"""The user's own text as captions, from the columns that the index has of the sidecar. A part of `reelpack caption`."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from caption.original import check_column, original_family, original_records, usable_texts
from caption.record import record_row
from curate.dataset.dataset import Dataset


@dataclass(frozen=True, kw_only=True, slots=True)
class OriginalSummary:
    """The user's text of the indexed clips.

    Attributes:
        family: Its table; None: `caption.original` names no column.
        texts: Clip id → the text that prompts and checks may use.
        states: Clips by how their text ended, `CaptionStatus`.
        reasons: Clips by reason code, of those whose text is not used or was cut.
        num_new: Texts that are new or changed since the last run.
    """

    family: str | None
    texts: Mapping[str, str]
    states: Mapping[str, int]
    reasons: Mapping[str, int]
    num_new: int


def check_original(dataset: Dataset, column: str | None) -> None:
    """See that `caption.original` names one of the user's columns of text, before any work.

    Raises:
        ValueError: it does not; the message lists the columns.
    """
    if column is not None:
        check_column(dataset.read_index().schema, dataset.sidecar_names(), column)


def store_originals(dataset: Dataset, column: str | None) -> OriginalSummary:
    """Store the records of the user's text, and name their table in config.yaml. Texts that did not change are not
    written again.

    Raises:
        ValueError: as `check_original`.
    """
    check_original(dataset, column)
    if column is None:
        if "original_family" in dataset.sections():
            dataset.save_section("original_family", None)
        return OriginalSummary(family=None, texts={}, states={}, reasons={}, num_new=0)
    index = dataset.read_index().select(["clip_id", column])
    records = list(original_records(index["clip_id"].to_pylist(), index[column].to_pylist(), column))
    family = original_family(column)
    table = dataset.captions(family)
    stored = {row["clip_id"]: (row["text"], row["status"]) for row in table.read(["text", "status"]).to_pylist()}
    new = [record for record in records if stored.get(record.clip_id) != (record.text, record.status)]
    dataset.check_writer()
    table.publish(map(record_row, new))
    if dataset.sections().get("original_family") != family:
        dataset.save_section("original_family", family)
    return OriginalSummary(
        family=family,
        texts=usable_texts(records),
        states=Counter(str(record.status) for record in records),
        reasons=Counter(finding.code for record in records for finding in record.findings),
        num_new=len(new),
    )
