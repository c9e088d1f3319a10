"""Why clips have no text embedding: from the index, and from the stored captions where they are not used."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.dataset.captions import TO_RETRY, caption_column, reason_of
from curate.dataset.current import current_records
from curate.dataset.layout import Layout
from curate.dataset.sources import DIGEST
from curate.storage.place import locate
from train.data.blend import ORDER

MAX_REASONS = 3


def captioned(dataset: str, clip_ids: Collection[str]) -> set[str]:
    """Those of the clips for which the index has a text that conditions a model, embedded or not."""
    fs, path = locate(Layout(dataset).index)
    found: set[str] = set()
    with pq.ParquetFile(path, filesystem=fs) as file:
        columns = [name for name in map(caption_column, ORDER) if name in file.schema_arrow.names]
        for batch in file.iter_batches(columns=["clip_id", *columns]) if columns else ():
            texts = [batch[name].cast(pa.large_string()) for name in columns]
            lengths = [pc.fill_null(pc.binary_length(text), 0) for text in texts]
            found.update(batch["clip_id"].filter(pc.greater(pc.max_element_wise(*lengths), 0)).to_pylist())
    return found.intersection(clip_ids)


def why_uncaptioned(dataset: str, clip_ids: Collection[str]) -> str:
    """What these clips lack, each with what to do about it.

    Args:
        dataset: its URL.
        clip_ids: clips of its index without a text embedding; at least one.
    """
    embed = f"`reelpack encode {dataset}`"
    not_embedded = captioned(dataset, clip_ids)
    unused = _unused(dataset, set(clip_ids) - not_embedded)
    num_bare = len({*clip_ids} - not_embedded - {row["clip_id"] for row in unused})
    said = []
    if not_embedded:
        said.append(f"{_clips(len(not_embedded))} captions that are not embedded: run {embed}")
    if unused:
        num_clips = len({row["clip_id"] for row in unused})
        said.append(
            f"{_clips(num_clips)} captions, none of which is used ({_counted(unused)}): "
            f"{' or '.join(_remedies(dataset, unused))}, then {embed}"
        )
    if num_bare:
        said.append(f"{_clips(num_bare)} no caption: run `reelpack caption {dataset}`, then {embed}")
    return "; ".join(said)


def _unused(dataset: str, clip_ids: Collection[str]) -> list[Mapping[str, Any]]:
    """The stored captions of clips that have none in the index, without `fields`; none where there are no tables."""
    fs, path = locate(Layout(dataset).index)
    with pq.ParquetFile(path, filesystem=fs) as file:
        columns = [name for name in ("clip_id", DIGEST) if name in file.schema_arrow.names]
        rows = file.read(columns)
    cut = rows.filter(pc.is_in(rows["clip_id"], pa.array(sorted(clip_ids), rows.schema.field("clip_id").type)))
    return [row for row in current_records(Layout(dataset), cut, ["findings"]).to_pylist() if row["level"] in ORDER]


def _counted(records: Iterable[Mapping[str, Any]]) -> str:
    """Levels, statuses and reasons of captions, the most frequent first; numbers, which differ clip by clip, are left
    out."""
    found = Counter(map(_told, records))
    shown = [f"{count} × {what}" for what, count in found.most_common(MAX_REASONS)]
    return "; ".join([*shown, *(["…"] if len(found) > MAX_REASONS else [])])


def _told(record: Mapping[str, Any]) -> str:
    reason = reason_of(record).partition(" (")[0]
    return f"{record['level']} {record['status']}" + (f": {reason}" if reason != record["status"] else "")


def _remedies(dataset: str, records: Collection[Mapping[str, Any]]) -> Iterator[str]:
    models = [record for record in records if record["level"] != "original"]
    if any(record["status"] in TO_RETRY for record in models):
        yield f"run `reelpack retry {dataset} --step caption`"
    if any(record["status"] not in TO_RETRY for record in models):
        yield f"caption them by another model (`reelpack caption {dataset} --set caption.backend.model=MODEL`)"
    if len(models) < len(records):
        yield "correct your own text in the sidecar"
    if not models:
        yield f"caption the clips by a model (`reelpack caption {dataset}`)"


def _clips(number: int) -> str:
    return "1 clip has" if number == 1 else f"{number} clips have"
