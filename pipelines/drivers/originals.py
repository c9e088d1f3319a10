"""The user's own text as captions, from the columns of the sidecar in the index. A part of `reelpack caption`."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from caption.original import check_column, is_text, original_family, original_records
from caption.record import record_row
from curate.dataset.dataset import Dataset
from curate.storage.lease import Occupied
from pipelines.console.progress import console
from pipelines.inputs.sample import TEXT


@dataclass(frozen=True, kw_only=True, slots=True)
class OriginalSummary:
    """The user's text of the indexed clips.

    Attributes:
        column: Of the sidecar; None: no column is the user's text.
        states: Clips by how their text ended, `CaptionStatus`.
        codes: Reason code → clips that have it.
        num_new: Texts that are new or changed since the last run.
    """

    column: str | None
    states: Mapping[str, int]
    codes: Mapping[str, int]
    num_new: int


def original_column(dataset: Dataset, given: str | None) -> str | None:
    """The column of the user's text: `caption.original`, or where that is null the column of the last run, if the
    sidecar still has it as text.

    Raises:
        ValueError: `caption.original` names no column of text; the message lists the columns.
    """
    own, schema = dataset.sidecar_names(), dataset.read_index().schema
    if given is not None:
        check_column(schema, own, given)
        return given
    last: str | None = dataset.sections().get("original_column")
    return last if last in own and is_text(schema.field(last).type) else None


def store_originals(dataset: Dataset, given: str | None) -> OriginalSummary:
    """Store the records of the user's text, and name their table in config.yaml. Texts that did not change are not
    written again.

    Raises:
        ValueError: as `original_column`.
    """
    column = original_column(dataset, given)
    family = column and original_family(column)
    for section, value in (("original_column", column), ("original_family", family)):
        if dataset.sections().get(section) != value:
            dataset.save_section(section, value)
    if column is None or family is None:
        return OriginalSummary(column=None, states={}, codes={}, num_new=0)
    index = dataset.read_index().select(["clip_id", column])
    records = list(original_records(index["clip_id"].to_pylist(), index[column].to_pylist(), column))
    table = dataset.captions(family)
    stored = {row["clip_id"]: (row["text"], row["status"]) for row in table.read(["text", "status"]).to_pylist()}
    new = [record for record in records if stored.get(record.clip_id) != (record.text, record.status)]
    dataset.check_writer()
    table.publish(map(record_row, new))
    return OriginalSummary(
        column=column,
        states=Counter(str(record.status) for record in records),
        codes=Counter(finding.code for record in records for finding in record.findings),
        num_new=len(new),
    )


def store_texts(dataset: Dataset, cut_key: str) -> int | None:
    """Store the texts that came with the inputs, so that clips train with them before any captioner runs.

    Args:
        dataset: whose `curate` has come to its end.
        cut_key: names the settings of the encoder.

    Returns:
        The number of clips in the index; None where another command writes captions alone now: the next run of
        `caption` or `curate` stores them then.
    """
    if original_column(dataset, None) is None:
        dataset.save_section("original_column", TEXT)
    writer = Dataset(dataset.url)
    try:
        with writer.shared_writer("captions"):
            store_originals(writer, None)
            return writer.write_index(cut_key)
    except Occupied as error:
        console.print(f"the inputs' own texts are not stored as captions yet: {error}", highlight=False, markup=False)
        return None
