"""A Hugging Face dataset: Parquet whose columns `video` and `image` the library decodes, with a card that names the
splits. Features of the library stand in the schema's metadata."""

import json
from collections.abc import Iterator
from typing import Any, Literal

import pyarrow as pa

from curate.export.base import File, Layout, beside
from curate.export.parquet import table_files
from curate.export.source import SPLIT_NAMES, Clip, Source

MEDIA = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
FEATURES = {"video": "Video", "image": "Image"}
"""Kind of a clip, which is its column, and the feature that decodes it."""

GUIDE = """\
The clips are in the column `video` or `image`, their texts in `caption`.

```python
import datasets

datasets.load_dataset("DIR", streaming=True)
```
"""


class HFLayout(Layout):
    """What `datasets.load_dataset` reads with decoded columns."""

    kind: Literal["hf"] = "hf"

    def files(self, source: Source) -> Iterator[File]:
        kinds = sorted(source.kinds)
        facts = {
            name: pa.string() if is_text else source.index.schema.field(name).type
            for name, is_text in source.fact_columns.items()
        }
        schema = pa.schema(list(beside(facts, **dict.fromkeys(kinds, MEDIA), caption=pa.string()).items()))
        features = {field.name: _feature(field) for field in schema}
        schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        yield from table_files(source, schema, lambda clip: _row(clip, kinds))

    def data_files(self, split: str) -> str:
        return f"data/{SPLIT_NAMES[split]}-*.parquet"

    def guide(self, source: Source) -> str:
        return GUIDE


def _row(clip: Clip, kinds: list[str]) -> dict[str, Any]:
    media = {"bytes": clip.media(), "path": f"{clip.id}.{clip.ext}"}
    columns = {kind: media if clip.row["kind"] == kind else None for kind in kinds}
    return beside(clip.facts, **columns, caption=clip.caption)


def _feature(field: pa.Field) -> dict[str, str]:
    if field.type == MEDIA:
        return {"_type": FEATURES[field.name]}
    names = {pa.float64(): "float64", pa.float32(): "float32", pa.float16(): "float16"}
    return {"_type": "Value", "dtype": names.get(field.type, str(field.type))}
