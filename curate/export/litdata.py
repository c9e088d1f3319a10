"""Chunks for LitData, written by its own writer: one folder for each split, which a `StreamingDataset` reads."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Literal

import pyarrow as pa

from curate.export.base import File, Layout, write_bytes
from curate.export.shard_size import ShardSize
from curate.export.source import Clip, Source

INDEX = "index.json"

GUIDE = """\
A sample is a dict: `clip_id`, `kind`, `ext`, `media` (the bytes of the clip), `caption`, and `row`, the rest as JSON.

```python
import litdata

litdata.StreamingDataset("DIR/SPLIT", shuffle=True)
```
"""


class LitDataLayout(Layout):
    """A `StreamingDataset` for each split."""

    kind: Literal["litdata"] = "litdata"
    shard_size: ClassVar[ShardSize] = ShardSize(num_bytes=64 * 2**20)

    def files(self, source: Source) -> Iterator[File]:
        for split, rows in source.splits.items():
            write = partial(_write, source=source, rows=rows)
            yield File(name=f"{split}/{INDEX}", write=write, num_clips=rows.num_rows)

    def check(self, source: Source) -> None:
        import litdata  # noqa: F401  before any work: its extra may be missing

    def guide(self, source: Source) -> str:
        return GUIDE.replace("SPLIT", next(iter(source.splits)))


def _write(url: str, source: Source, rows: pa.Table) -> None:
    """Write all chunks of a split, each published as it is full, and last `url`, their index."""
    from litdata.streaming.writer import BinaryWriter

    folder = url.rpartition("/")[0]
    with TemporaryDirectory() as scratch:
        writer = BinaryWriter(scratch, chunk_size=source.shard_size.clips, chunk_bytes=source.shard_size.num_bytes)
        for position, clip in enumerate(source.clips(rows)):
            writer.add_item(position, _item(clip))
            _move_chunks(scratch, folder)
        writer.done()
        writer.merge()
        _move_chunks(scratch, folder)
        write_bytes(url, Path(scratch, INDEX).read_bytes())


def _item(clip: Clip) -> dict[str, Any]:
    row = json.dumps(clip.facts, sort_keys=True)
    of_clip = {"clip_id": clip.id, "kind": clip.row["kind"], "ext": clip.ext}
    return {**of_clip, "media": clip.media(), "caption": clip.caption, "row": row}


def _move_chunks(scratch: str, folder: str) -> None:
    for chunk in sorted(Path(scratch).glob("*.bin")):
        write_bytes(f"{folder}/{chunk.name}", chunk.read_bytes())
        chunk.unlink()
