"""Tars of samples: <clip_id>.mp4 or .png, .txt, .json, latents by option.

Every sample of an export has the same extensions, and every .json the same keys with values of the same types.
`datasets` infers both from the first five samples of one tar: what it did not see there it leaves out silently,
and a number where it saw nulls is an error.
"""

import json
from collections.abc import Iterator
from functools import partial
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa

from curate.dataset.layout import shard_name
from curate.export.base import File, Layout
from curate.export.source import Clip, Source
from curate.schema import MediaError
from curate.shards.tar import write_tar
from curate.threads import import_decoders

IMAGE, VIDEO = "png", "mp4"
Sample = tuple[str, dict[str, bytes]]
"""A key, and payloads by extension."""

GUIDE = """\
Each sample has the clip (`.mp4`, `.png`), its caption (`.txt`) and its row (`.json`).

```python
import datasets, webdataset

datasets.load_dataset("webdataset", data_dir="DIR")
webdataset.WebDataset("DIR/SPLIT-000000.tar", shardshuffle=False)
```
"""
BOTH = """
An image is also an `.mp4` of one frame, and the first frame of a clip is also a `.png`. `kind` in the `.json` says
which of them is the original.
"""


class WebDatasetLayout(Layout):
    """Tars that webdataset and `datasets` read."""

    kind: Literal["webdataset"] = "webdataset"
    takes_latents: ClassVar[bool] = True

    def check(self, source: Source) -> None:
        if len(source.kinds) > 1:
            import_decoders()

    def files(self, source: Source) -> Iterator[File]:
        for split, number, _, rows in source.shards():
            write = partial(write_shard, source=source, rows=rows, both=len(source.kinds) > 1)
            yield File(name=shard_name(split, number), write=write, num_clips=rows.num_rows)

    def data_files(self, split: str) -> str:
        return f"{split}-*.tar"

    def guide(self, source: Source) -> str:
        return GUIDE.replace("SPLIT", next(iter(source.splits))) + BOTH * (len(source.kinds) > 1)


def write_shard(url: str, source: Source, rows: pa.Table, *, both: bool) -> None:
    """Write one tar of samples; `both`: each has the forms of a clip and of an image."""
    write_tar(url, (sample(clip, source, both=both) for clip in source.clips(rows)))


def sample(clip: Clip, source: Source, *, both: bool = False) -> Sample:
    """The members of one clip. The .txt is empty where it has no caption.

    Raises:
        ValueError: with `both`, a clip that cannot be decoded.
    """
    data = clip.media()
    parts = {clip.ext: data}
    if both:
        parts |= _other_form(clip.id, clip.ext, data)
    parts["txt"] = clip.caption.encode()
    parts["json"] = json.dumps(clip.facts, sort_keys=True).encode()
    if source.latents is not None:
        parts |= source.latents(clip.id)
    return clip.id, parts


def _other_form(name: str, ext: str, data: bytes) -> dict[str, bytes]:
    from curate.media.decode import clip_frames, clip_times
    from curate.media.encode import encode_mp4
    from curate.media.still import encode_png

    try:
        rgb = next(clip_frames(data, clip_times(data), np.zeros(1, np.int64)))
    except MediaError as error:
        raise ValueError(f"clip {name} cannot be decoded ({error}); `reelpack verify` finds all like it") from error
    return {IMAGE: encode_png(rgb)} if ext == VIDEO else {VIDEO: encode_mp4(rgb[None], 1)}
