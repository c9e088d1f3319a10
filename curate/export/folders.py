"""Files of their own: `{split}/{videos|images}/<clip_id>.mp4` beside `<clip_id>.txt`, and `metadata.jsonl`."""

import json
from collections.abc import Callable, Iterator
from typing import Literal

from curate.export.base import File, Layout, beside, media_file, text_file
from curate.export.source import Clip, Source
from curate.storage.publish import publish

FOLDERS = {"video": "videos", "image": "images"}

GUIDE = """\
`{split}/videos` and `{split}/images` hold each clip beside a `.txt` with its caption, which is empty where there is
none. `metadata.jsonl` has the rows, with `file_name`.
"""


class FoldersLayout(Layout):
    """A clip beside its caption, and a table of all rows."""

    kind: Literal["folders"] = "folders"

    def files(self, source: Source) -> Iterator[File]:
        yield from pairs(source, folder_of)
        yield File(name="metadata.jsonl", write=lambda url: _write_table(url, source))

    def guide(self, source: Source) -> str:
        return GUIDE


def folder_of(clip: Clip) -> str:
    """`train/videos`: clips of one split and kind."""
    return f"{clip.row['split']}/{FOLDERS[clip.row['kind']]}"


def pairs(source: Source, folder: Callable[[Clip], str]) -> Iterator[File]:
    """Each clip beside its caption."""
    for clip in source.clips(source.index):
        stem = f"{folder(clip)}/{clip.id}"
        yield media_file(stem, clip)
        caption = text_file(f"{stem}.txt", clip.caption)
        yield File(name=caption.name, write=caption.write, num_clips=1)


def _write_table(url: str, source: Source) -> None:
    with publish(url) as file:
        for clip in source.clips(source.index):
            row = beside(clip.facts, file_name=f"{folder_of(clip)}/{clip.id}.{clip.ext}")
            file.write(f"{json.dumps(row, sort_keys=True)}\n".encode())
