"""The threshold explorer: every clip's scores inside the page; sliders recount the funnel as `decide` would.

The page is given the columns (columns.py); policy.js decides over them, explorer.js draws and listens.
"""

import json
import shlex
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.columns import COLUMNS
from curate.dedup.best import quality
from curate.policy import applies_to_images, is_required
from curate.report.cards import thumbnail
from curate.report.columns import pack_column, pack_numbers, pack_strings, pack_texts
from curate.report.data import NOT_RULED, DatasetView
from curate.report.filmstrip import Strip
from curate.rules import SETS

MAX_CLIPS = 200_000
"""Of more clips than this the page holds an even sample, and says so."""
MAX_OWN_CHARS = 120
NUM_AT_EDGE = 3
DECISIONS = pa.array(["keep", "reject", "pending", "failed"])
"""The codes of decisions in the page."""
QUALITY = ("clip_id", "width", "height", "letterbox_fraction", "bitrate", "duration_s", "sharpness")


def explorer(view: DatasetView, strips: Mapping[str, Strip | str]) -> str:
    """The section: an empty frame that explorer.js fills, the data, and the strips of clips at the thresholds."""
    if not view.clips.num_rows:
        return ""
    # "<" could end the script element.
    data = json.dumps(explorer_data(view), separators=(",", ":")).replace("<", "\\u003c")
    thumbs = "".join(thumbnail(strip, clip_id) for clip_id, strip in strips.items() if not isinstance(strip, str))
    return (
        '<div id="explorer"><noscript>The thresholds are explored by a script, which this browser does not run.'
        f'</noscript></div><template id="pictures">{thumbs}</template>'
        f'<script type="application/json" id="explorer-data">{data}</script>'
    )


def explorer_data(view: DatasetView) -> dict[str, Any]:
    """What policy.js reads, over all clips or an even sample of `MAX_CLIPS`."""
    clips = sampled(view.clips)
    rows = _group_rows(clips)
    lost = _rows_by(clips, "unscored")
    is_cut = pc.is_in(clips["clip_id"], view.index["clip_id"].combine_chunks())
    return {
        "total": view.clips.num_rows,
        "command": shlex.join(["reelpack", "select", view.url]),
        "columns": [_column(view, clips, name, lost.get(name, [])) for name in columns_of(view)],
        "sets": [side for name in view.rules if name in clips.column_names for side in _sets(view, clips, name)],
        "own": [{"name": name, "texts": pack_texts(_own(clips, name))} for name in view.own_names()],
        "failed": sorted(_rows_by(clips, "failed_step").items()),
        "ids": pack_strings(clips["clip_id"].to_pylist()),
        "uris": pack_texts(clips["video_uri"]),
        "start_s": pack_numbers(np.round(clips["start_s"].to_numpy(), 3)),
        "end_s": pack_numbers(np.round(clips["end_s"].to_numpy(), 3)),
        "is_image": pack_numbers(pc.equal(clips["kind"], "image").to_numpy().astype(np.int8)),
        "is_cut": pack_numbers(is_cut.to_numpy().astype(np.int8)),
        "decisions": pack_numbers(pc.index_in(clips["decision"], DECISIONS).to_numpy().astype(np.int8)),
        "group_rows": pack_numbers(np.concatenate([np.zeros(0, np.int32), *rows])),
        "group_sizes": pack_numbers(np.array([len(group) for group in rows], np.int32)),
    }


def sampled(clips: pa.Table) -> pa.Table:
    """All rows, or an even sample of `MAX_CLIPS`."""
    stride = stride_of(clips)
    return clips.take(np.arange(0, clips.num_rows, stride)) if stride > 1 else clips


def stride_of(clips: pa.Table) -> int:
    """Every which row the page holds."""
    return max(1, -(-clips.num_rows // MAX_CLIPS))


def edge_rows(view: DatasetView) -> list[Mapping[str, Any]]:
    """The clips next to each threshold of the policy: the nearest ones that it lets pass and are kept, and the nearest
    that break it. They get a strip."""
    rows: list[int] = []
    kept = pc.equal(view.clips["decision"], "keep").to_numpy()
    for name in view.score_names():
        values = view.clips[name].cast("float64").to_numpy()  # null becomes NaN, which compares as false
        for bound, sign in zip(view.bounds(name), (1, -1), strict=True):
            if bound is not None:
                beyond = sign * (values - bound)
                rows += [*_smallest(beyond, kept & (beyond >= 0)), *_smallest(-beyond, beyond < 0)]
    return view.clips.take(pa.array(sorted(set(rows)), pa.int64())).to_pylist()


def _smallest(distances: npt.NDArray[np.float64], among: npt.NDArray[np.bool_]) -> list[int]:
    rows = np.flatnonzero(among)
    return rows[np.argsort(distances[rows], kind="stable")[:NUM_AT_EDGE]].tolist()


def columns_of(view: DatasetView) -> list[str]:
    """Every number that a rule bounds by default or in this policy, and every other one that varies."""
    return [name for name in view.numbers() if _is_bound(view, name) or _varies(view.clips[name])]


def _is_bound(view: DatasetView, name: str) -> bool:
    is_by_default = name in COLUMNS and bool(COLUMNS[name].default.sides)
    return view.bounds(name) != (None, None) or (is_by_default and name in view.score_names())


def _varies(values: pa.ChunkedArray) -> bool:
    return len(set(pc.min_max(values).as_py().values())) > 1


def _column(view: DatasetView, clips: pa.Table, name: str, lost: list[int]) -> dict[str, Any]:
    low, high = view.bounds(name)
    relative = view.given_rules[name].relative if name in view.given_rules else {}
    said = [COLUMNS[name].description] if name in COLUMNS else []
    said += [f"the policy bounds it by {side}: {bound:g}" for side, bound in relative.items()]
    return {
        "name": name,
        "description": "; ".join(said),
        "relative": list(relative),
        "is_rule": name not in NOT_RULED,
        "skips_images": not applies_to_images(name),
        "is_required": is_required(name),
        "min": low,
        "max": high,
        "lost": lost,
        **pack_column(clips[name]),
    }


def _sets(view: DatasetView, clips: pa.Table, name: str) -> list[dict[str, Any]]:
    """The sides of a rule that name values: the clips that break them, and those without a value. They stay as they
    are in the page."""
    values = clips[name]
    masks = view.rules[name].broken_sides(values, SETS)
    is_missing = pc.and_(pc.is_null(values), pc.or_(pc.not_equal(clips["kind"], "image"), applies_to_images(name)))
    missing = pack_numbers((is_missing.to_numpy() & is_required(name)).astype(np.int8))
    return [
        {
            "name": f"{name}.{side}",
            "column": name,
            "broken": pack_numbers(pc.fill_null(mask, False).to_numpy().astype(np.int8)),
            "missing": missing,
        }
        for side, mask in masks.items()
    ]


def _rows_by(clips: pa.Table, name: str) -> dict[str, list[int]]:
    """Value of a column of strings, or of lists of them, to the rows that have it."""
    rows: dict[str, list[int]] = {}
    if name in clips.column_names:  # no step of an earlier version wrote it
        for row, found in enumerate(clips[name].to_pylist()):
            for value in [found] if isinstance(found, str) else found or ():
                rows.setdefault(value, []).append(row)
    return rows


def _own(clips: pa.Table, name: str) -> pa.ChunkedArray:
    """One of the user's columns as strings, long ones shortened: the cards have them whole."""
    return pc.utf8_slice_codeunits(pc.cast(clips[name], pa.string()), 0, MAX_OWN_CHARS)


def _group_rows(clips: pa.Table) -> list[npt.NDArray[np.int32]]:
    """Rows of each duplicate group, from the best copy to the worst."""
    if "duplicate_group" not in clips.column_names:
        return []
    rows = np.flatnonzero(pc.is_valid(clips["duplicate_group"]).to_numpy())
    known = [name for name in QUALITY if name in clips.column_names]
    members = clips.select(["duplicate_group", *known]).take(rows).to_pylist()
    groups: dict[str, list[int]] = {}
    for at in sorted(range(len(members)), key=lambda at: quality(members[at]), reverse=True):
        groups.setdefault(members[at]["duplicate_group"], []).append(rows[at])
    return [np.array(groups[name], np.int32) for name in sorted(groups)]
