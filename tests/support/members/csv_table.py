"""Clips beside `clips.csv`, a table of their paths and captions."""

import csv
from collections.abc import Iterator
from io import StringIO
from typing import Literal

from curate.export.base import File, Layout, media_file, text_file
from curate.export.source import Source


class CsvLayout(Layout):
    """A table of paths and texts."""

    kind: Literal["csv"] = "csv"

    def files(self, source: Source) -> Iterator[File]:
        table = StringIO()
        lines = csv.writer(table)
        for clip in source.clips(source.index):
            media = media_file(f"clips/{clip.id}", clip)
            lines.writerow([media.name, clip.caption])
            yield File(name=media.name, write=media.write, num_clips=1)
        yield text_file("clips.csv", table.getvalue())

    def guide(self, source: Source) -> str:
        return "`clips.csv` has the path and the caption of each clip.\n"
