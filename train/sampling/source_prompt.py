"""What a clip shows that is edited by inversion: its caption, where it is a clip of the run's datasets."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.dataset.captions import TEXT_LEVELS, caption_column, texts_of
from curate.dataset.layout import Layout
from curate.storage.place import locate
from train.data.blend import reference_text
from train.run.folder import RunRecord


def caption_of(clip: Path, record: RunRecord) -> str:
    """The caption of a file that is named after a clip of the run's datasets, as members of the shards are.

    "": it is named after none, the clip has no caption, or the dataset is not there.
    """
    for dataset in record.datasets:
        texts = texts_of(_row(str(dataset["url"]), clip.stem))
        if name := reference_text(texts):
            return texts[name]
    return ""


def _row(dataset: str, clip_id: str) -> Mapping[str, Any]:
    """The captions of a clip by column."""
    try:
        fs, path = locate(Layout(dataset).index)
        stored = pq.read_schema(path, filesystem=fs).names
        columns = [name for name in map(caption_column, TEXT_LEVELS) if name in stored]
        rows = pq.read_table(path, columns=columns, filters=pc.field("clip_id") == clip_id, filesystem=fs).to_pylist()
    except (OSError, ImportError, pa.ArrowInvalid):
        return {}
    return rows[0] if rows else {}
