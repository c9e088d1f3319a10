"""The bytes of a clip to play: from its shard by offset, or cut from its source where it is in none."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

from curate.dataset.layout import Layout
from curate.media.cut import CutConfig, cut_clip
from curate.media.fetch import local_copy
from curate.report.data import DatasetView
from curate.schema import MediaError, Span
from curate.shards.tar import TarReader, read_member
from curate.storage.publish import publish, remove_folder

FOLDER = "clips"
"""Beside the page."""
PREVIEW = CutConfig(short_side_px=360)
"""Of clips that are in no shard."""
NUM_THREADS = 4
Row = Mapping[str, Any]


def ext_of(row: Row, member: Row | None) -> str:
    """File extension of a clip's bytes."""
    return str(member["ext"]) if member is not None else "png" if row["kind"] == "image" else "mp4"


def preview(row: Row) -> bytes:
    """A clip that is in no shard, cut from its source and scaled down.

    Raises:
        MediaError, OSError, ValueError: the source is not there, or cannot be read.
    """
    span = Span(start_pts=row["start_pts"], end_pts=row["end_pts"], time_base=Fraction(row["time_base"]))
    with local_copy(row["video_uri"]) as path:
        return cut_clip(path, span, PREVIEW).data


def write_clips(view: DatasetView, rows: Iterable[Row], limit: int) -> dict[str, str]:
    """Write the first `limit` of these clips beside the page, in place of those of an earlier one.

    Returns:
        Clip id → its file, relative to the page. A clip that cannot be read has none.
    """
    chosen = list({row["clip_id"]: row for row in rows}.values())[:limit]
    layout, members = Layout(view.url), view.members([row["clip_id"] for row in chosen])
    folder, shards = f"{layout.report.rpartition('/')[0]}/{FOLDER}", TarReader(layout.shards)
    remove_folder(folder)

    def write(row: Row) -> str | None:
        member = members.get(row["clip_id"])
        try:
            data = preview(row) if member is None else read_member(shards, member)
        except (MediaError, OSError, ValueError):  # its card has no picture either, and says why
            return None
        name = f"{row['clip_id']}.{ext_of(row, member)}"
        with publish(f"{folder}/{name}") as file:
            file.write(data)
        return f"{FOLDER}/{name}"

    with ThreadPoolExecutor(NUM_THREADS) as pool:
        files = zip(chosen, pool.map(write, chosen), strict=True)
        return {row["clip_id"]: file for row, file in files if file is not None}
