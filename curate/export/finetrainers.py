"""For finetrainers: `{split}/{videos|images}` with `metadata.jsonl` (file_name, caption), and `training.json`, the
file of `--dataset_config`."""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from curate.export.base import File, Layout, media_file, text_file
from curate.export.folders import FOLDERS
from curate.export.source import Source
from curate.storage.publish import publish

GUIDE = """\
`training.json` names the folders by their paths at the time of the export. Its buckets (frames, height, width)
are yours to choose.

```
python train.py --dataset_config DIR/training.json …
```
"""


class FinetrainersLayout(Layout):
    """Folders that its `VideoFolderDataset` and `ImageFolderDataset` read."""

    kind: Literal["finetrainers"] = "finetrainers"
    video_buckets: tuple[tuple[int, int, int], ...] = Field(
        ((49, 480, 832),), description="frames, and height and width in px, that clips are brought to"
    )
    image_buckets: tuple[tuple[int, int], ...] = Field(
        ((480, 832),), description="height and width in px that images are brought to"
    )

    def files(self, source: Source) -> Iterator[File]:
        for split, kind in source.groups:
            folder, rows = f"{split}/{FOLDERS[kind]}", source.rows(split, kind)
            for clip in source.clips(rows):
                media = media_file(f"{folder}/{clip.id}", clip)
                yield File(name=media.name, write=media.write, num_clips=1)
            yield File(name=f"{folder}/metadata.jsonl", write=partial(_write_table, source=source, rows=rows))
        settings = [self._settings(source, split, kind) for split, kind in source.groups if split == "train"]
        yield text_file("training.json", json.dumps({"datasets": settings}, indent=2, ensure_ascii=False))

    def _settings(self, source: Source, split: str, kind: str) -> dict[str, Any]:
        return {
            "data_root": f"{source.out}/{split}/{FOLDERS[kind]}",
            "dataset_type": kind,
            f"{kind}_resolution_buckets": self.video_buckets if kind == "video" else self.image_buckets,
            "reshape_mode": "bicubic",
        }

    def guide(self, source: Source) -> str:
        return GUIDE


def _write_table(url: str, source: Source, rows: pa.Table) -> None:
    with publish(url) as file:
        for clip in source.clips(rows):
            line = json.dumps({"file_name": f"{clip.id}.{clip.ext}", "caption": clip.caption})
            file.write(f"{line}\n".encode())
