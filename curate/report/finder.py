"""Clips by what is asked of them: words, decision, reason, order; over the columns in memory, nothing is decoded."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Self, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.captions import CAPTION_COLUMNS
from curate.report.against import Against, Differing
from curate.report.data import DatasetView
from curate.report.explorer import DECISIONS
from curate.report.projection import box_of

PAGE_SIZE = 24
MAX_WORDS = 500
"""Characters."""
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """What is asked for; the empty text of each asks for nothing.

    Attributes:
        q: Words of a URI, a caption, a text of a scorer, the user's own columns, or the beginning of a clip id.
        by: `meaning`: `q` is compared with the clips' embeddings; `like`: the embedding of the clip `q` is.
        decision: One of `keep`, `reject`, `pending`, `failed`.
        reason: A rule that rejects the clip.
        sort: A numeric column; none: by file and time, or by likeness where `by` is `meaning`.
        is_descending: Largest first.
        page: From 1.
        differ: With another decision: which of the clips that it decides differently, see `Differing`.
        box: Of the map of embeddings: left, bottom, right, top.
    """

    q: str = ""
    by: str = ""
    decision: str = ""
    reason: str = ""
    sort: str = ""
    is_descending: bool = False
    page: int = 1
    differ: Differing | None = None
    box: tuple[float, float, float, float] | None = None

    @classmethod
    def of(cls, query: dict[str, str], view: DatasetView) -> Self:
        """From the query of a URL.

        Raises:
            ValueError: a value that this dataset does not know.
        """
        decision, sort, by = query.get("decision", ""), query.get("sort", ""), query.get("by", "")
        if decision and decision not in DECISIONS.to_pylist():
            raise ValueError(f"decision: got {decision!r}, expected one of {', '.join(DECISIONS.to_pylist())}")
        if sort and sort not in view.numbers():
            raise ValueError(f"sort: got {sort!r}, which is no numeric column of this dataset")
        if by not in ("", "meaning", "like"):
            raise ValueError(f"by: got {by!r}, expected meaning or like")
        differ = next((one for one in get_args(Differing) if one == query.get("differ")), None)
        if differ is None and query.get("differ"):
            raise ValueError(f"differ: got {query['differ']!r}, expected one of {', '.join(get_args(Differing))}")
        page, words = query.get("page", "1"), query.get("q", "").strip()
        if not (page.isascii() and page.isdigit()) or not 1 <= int(page[:9]) < 10**9:
            raise ValueError(f"page: got {page[:20]!r}, expected a number from 1")
        if len(words) > MAX_WORDS:
            raise ValueError(f"q: got {len(words):,} characters, expected at most {MAX_WORDS}")
        return cls(
            q=words,
            by=by,
            decision=decision,
            reason=query.get("reason", ""),
            sort=sort,
            is_descending=query.get("descending") == "1",
            page=int(page[:9]),
            differ=differ,
            box=box_of(query.get("box", "")),
        )


def find(
    view: DatasetView, search: Search, among: Collection[str] | None = None, against: Against | None = None
) -> Rows:
    """Numbers of the rows of clips.parquet that are asked for, in order.

    Args:
        view: the dataset.
        search: its words are looked for only where `by` is empty.
        among: ids of the clips that are meant; None: all.
        against: the other decision that `search.differ` means; without one it asks for nothing.
    """
    clips = view.clips
    masks: list[npt.NDArray[np.bool_]] = []
    if search.decision:
        masks.append(np.asarray(pc.equal(clips["decision"], search.decision)))
    if search.reason:
        masks.append(_rejected_by(clips["reasons"], search.reason))
    if search.q and not search.by:
        masks.append(_with_words(view, search.q))
    if search.differ and against:
        masks.append(against.masks[search.differ])
    if among is not None:
        masks.append(np.asarray(pc.is_in(clips["clip_id"], pa.array(list(among), pa.string()))))
    rows = np.arange(clips.num_rows)
    for mask in masks:
        rows = rows[mask[rows]]
    return _sorted(view, rows, search)


def _sorted(view: DatasetView, rows: Rows, search: Search) -> Rows:
    """Equal values, and those without one, stay in their order; the latter are last."""
    if not search.sort:
        return rows[::-1] if search.is_descending else rows
    values = view.clips[search.sort].cast(pa.float64()).to_numpy()[rows]  # null becomes NaN, which sorts as the last
    return rows[np.argsort(-values if search.is_descending else values, kind="stable")]


def _rejected_by(column: pa.ChunkedArray, reason: str) -> npt.NDArray[np.bool_]:
    mask, reasons = np.zeros(len(column), bool), pa.concat_arrays(column.chunks or [pa.array([], column.type)])
    having = pc.equal(pc.list_flatten(reasons), reason)
    mask[np.asarray(pc.list_parent_indices(reasons).filter(having))] = True
    return mask


def _with_words(view: DatasetView, words: str) -> npt.NDArray[np.bool_]:
    clips = view.clips
    mask = np.asarray(pc.starts_with(clips["clip_id"], words.lower())).copy()
    for column in (clips["video_uri"], *map(view.texts, [*view.own_names(), *view.text_scores()])):
        mask |= _holds(column, words)
    columns = [view.index[name] for name in CAPTION_COLUMNS if name in view.index.column_names]
    captioned = np.zeros(view.index.num_rows, bool)
    for column in columns:
        captioned |= _holds(column, words)
    if captioned.any():
        mask |= np.asarray(
            pc.is_in(clips["clip_id"], view.index["clip_id"].filter(pa.array(captioned)).combine_chunks())
        )
    return mask


def _holds(column: pa.ChunkedArray, words: str) -> npt.NDArray[np.bool_]:
    """Each distinct text is looked at once."""
    texts = column.combine_chunks().dictionary_encode()
    hits = pc.match_substring(texts.dictionary, words, ignore_case=True)
    return np.asarray(pc.fill_null(pc.take(hits, texts.indices), False))
