"""A dataset as the served report asks for it: pages of cards, strips, clips, sections; read again when it changes."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import pyarrow.compute as pc

from curate.dataset.dataset import Dataset
from curate.dataset.layout import Layout
from curate.report.against import Against, packed
from curate.report.compared import compared
from curate.report.data import DatasetView, read_dataset
from curate.report.filmstrip import NUM_FRAMES, Strip, payload_of, strip_of_clip
from curate.report.finder import PAGE_SIZE, Search, find
from curate.report.media import ext_of, preview
from curate.report.parts import Part, parts
from curate.report.projection import Points, embedding_map, points
from curate.report.review import texts_of
from curate.report.sheets import cards_of
from curate.shards.tar import TarReader
from curate.storage.place import locate
from pipelines.drivers.review import store_judgments
from pipelines.inspection.against import against, choices
from pipelines.inspection.failures import standing_failures
from pipelines.inspection.search import Query, ways
from pipelines.inspection.search import search as nearest_clips
from pipelines.viewer.frame import frame

MAX_NEAREST = 1000
"""Clips that a search by meaning finds."""
KEPT_PREVIEWS = 16
SHEETS = frozenset({"kept", "rejected"})
"""Sections of a file's report that the clips of the served page take the place of."""


@dataclass(frozen=True, kw_only=True)
class Edition:
    """The dataset as it was read at one time, and the sections that were made of it so far."""

    stamp: tuple[str, ...]
    view: DatasetView
    parts: Mapping[str, Part]
    ways: tuple[str, ...]
    others: Mapping[str, str]
    beside: dict[str, Against] = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=dict)

    @cached_property
    def page(self) -> bytes:
        """HTML, without any clip in it."""
        return frame(self.view, self.parts.values(), self.ways, self.others).encode()

    @cached_property
    def points(self) -> Points | None:
        """The map of embeddings; None where there are none."""
        return points(self.view)

    def against(self, key: str) -> Against | None:
        """The decision of `others` that is asked for; none of an empty key.

        Raises:
            ValueError: there is no such one.
        """
        if not key:
            return None
        if key not in self.others:
            raise ValueError(f"against: got {key[:80]!r}, expected one of {', '.join(self.others) or 'nothing'}")
        if key not in self.beside:
            self.beside[key] = against(self.view, key)
        return self.beside[key]

    def compared(self, other: Against) -> str:
        """HTML on what both decide differently."""
        name = f"against/{other.key}"
        if name not in self.made:
            self.made[name] = compared(other)
        return self.made[name]


@dataclass(frozen=True, kw_only=True, slots=True)
class Media:
    """A clip to play: its size in bytes, its bytes from a first up to, without, a last, and its file extension."""

    size: int
    read: Callable[[int, int], bytes]
    ext: str


class Library:
    """Args:
    url: the dataset directory.
    runs: training runs that are shown.
    beside: directory of another dataset that this one can be compared with.
    asked: further arguments of `parts`.

    Raises:
        ValueError: nothing was curated into the dataset.
    """

    def __init__(self, url: str, runs: Sequence[str] = (), beside: str | None = None, **asked: Any) -> None:
        self.dataset, self._beside = Dataset(url), beside
        self._runs, self._asked = tuple(runs), asked
        self._lock, self._cutting = threading.Lock(), threading.Lock()
        self._shards = TarReader(self.dataset.layout.shards)
        self._previews: OrderedDict[str, bytes] = OrderedDict()
        self._near = lru_cache(maxsize=64)(self._nearest)
        self._edition: Edition | None = None

    @property
    def edition(self) -> Edition:
        """The dataset as it is now."""
        with self._lock:
            stamp = self._stamp()
            if self._edition is None or self._edition.stamp != stamp:
                view = read_dataset(self.dataset.url, standing_failures(self.dataset))
                found = parts(view, self._runs, media={}, **self._asked)
                shown = {part.anchor: part for part in found if part.anchor not in SHEETS}
                self._edition = Edition(
                    stamp=stamp,
                    view=view,
                    parts=shown,
                    ways=ways(self.dataset.url),
                    others=choices(view, self._beside),
                )
            return self._edition

    @property
    def view(self) -> DatasetView:
        return self.edition.view

    def section(self, anchor: str) -> str | None:
        """HTML of a section, empty where there is nothing to show; None: there is no such section."""
        edition = self.edition
        if anchor not in edition.parts:
            return None
        if anchor not in edition.made:
            is_map = anchor == "map"  # what is drawn is what a box chooses from
            html = embedding_map(edition.view, edition.points) if is_map else edition.parts[anchor].build()
            edition.made[anchor] = html
        return edition.made[anchor]

    def clips(self, query: dict[str, str]) -> dict[str, Any]:
        """One page of what is asked for.

        Returns:
            `html`: its cards. `total`: how many clips were found. `page`, `pages`: where this is. `compared`: HTML on
            the decision that the clips are laid beside.

        Raises:
            ValueError: a value that this dataset does not know, or a search that it does not allow.
        """
        edition = self.edition  # one for the whole answer: the dataset can change meanwhile
        view, other = edition.view, edition.against(query.get("against", ""))
        search = Search.of(query, view)
        cosines = self._near(search.q, search.by, edition.stamp) if search.by and search.q else None
        among = None if cosines is None else set(cosines)
        if search.box is not None and (drawn := edition.points) is not None:
            inside = set(drawn.inside(search.box))
            among = inside if among is None else among & inside
        found = find(view, search, among, other)
        pages = max(1, -(-len(found) // PAGE_SIZE))
        page = min(search.page, pages)
        if cosines is not None and not search.sort:
            ids = view.clips["clip_id"].take(found).to_pylist()
            found = found[sorted(range(len(ids)), key=lambda at: -cosines[ids[at]])]
        rows = view.clips.take(found[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]).to_pylist()
        scores = view.score_names()
        if cosines is not None:
            rows = [{**row, "cosine": cosines[row["clip_id"]]} for row in rows]
            scores = ["cosine", *scores]
        return {
            "html": "".join(self._cards(view, rows, scores, other)),
            "total": len(found),
            "page": page,
            "pages": pages,
            "compared": edition.compared(other) if other else "",
        }

    def laid(self, query: dict[str, str]) -> dict[str, Any]:
        """See `curate.report.against.packed`.

        Raises:
            ValueError: there is no such decision.
        """
        other = self.edition.against(query.get("against", ""))
        return packed(other) if other else {}

    def media(self, clip_id: str) -> Media | None:
        """None: the dataset has no such clip.

        Raises:
            MediaError, OSError, ValueError: it is in no shard, and its source cannot be read.
        """
        row, member = self._clip(clip_id)
        if row is None:
            return None
        ext = ext_of(row, member)
        if member is not None:
            return Media(size=member["size"], read=lambda *part: self._shards.read_part(member, *part), ext=ext)
        data = self._preview(row)
        return Media(size=len(data), read=lambda first, last: data[first:last], ext=ext)

    def strip(self, clip_id: str) -> bytes | str | None:
        """A JPEG of a clip's frames side by side, or why there is none; None: the dataset has no such clip."""
        row, member = self._clip(clip_id)
        if row is None:
            return None
        strip = strip_of_clip(row, member, self._shards, NUM_FRAMES)
        return strip if isinstance(strip, str) else payload_of(strip.uri)

    def captions(self, clip_id: str) -> dict[str, Any]:
        """The `texts` of a clip, as they are judged, and the `dataset` that they are of."""
        view = self.view
        cut = view.index.filter(pc.equal(view.index["clip_id"], clip_id))
        records = self.dataset.current_records(cut, ["findings", "provenance"])
        return {"dataset": view.url, "texts": texts_of(records).get(clip_id, []), "is_cut": cut.num_rows > 0}

    def judge(self, lines: str) -> dict[str, Any]:
        """Store lines of review.jsonl as `reelpack caption --review` does.

        Returns:
            `stored`, `unchanged`: how many. `left_out`: line number and reason, of those that no longer fit.

        Raises:
            ValueError: a line is no judgment, or another process writes captions; nothing is stored then.
        """
        found = store_judgments(self.dataset.url, lines.split("\n"), "the page")
        stored = sum(found.actions.values())
        return {"stored": stored, "unchanged": found.num_unchanged, "left_out": list(found.left_out)}

    def _clip(self, clip_id: str) -> tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]:
        """A clip's rows of clips.parquet and of the index."""
        view = self.view
        at = view.clips["clip_id"].index(clip_id).as_py()
        return (
            (None, None) if at < 0 else (view.clips.slice(at, 1).to_pylist()[0], view.members([clip_id]).get(clip_id))
        )

    def _cards(
        self, view: DatasetView, rows: Sequence[Mapping[str, Any]], scores: Sequence[str], other: Against | None
    ) -> list[str]:
        members = view.members([row["clip_id"] for row in rows])
        strips: dict[str, Strip | str] = {
            row["clip_id"]: Strip(
                uri=f"/strips/{row['clip_id']}",
                num_frames=max(1, min(NUM_FRAMES, row["num_frames"])),
                ratio=row["width"] / row["height"],
            )
            for row in rows
        }
        media = {row["clip_id"]: f"/clips/{row['clip_id']}" for row in rows}
        return cards_of(view, rows, members, strips, scores, media, against=other, is_served=True)

    def _preview(self, row: Mapping[str, Any]) -> bytes:
        """Cut once for the many parts that a player asks for; one at a time."""
        name = row["clip_id"]
        with self._cutting:
            if name not in self._previews:
                self._previews[name] = preview(row)
                while len(self._previews) > KEPT_PREVIEWS:
                    self._previews.popitem(last=False)
            return self._previews[name]

    def _nearest(self, text: str, by: str, _stamp: tuple[str, ...]) -> dict[str, float]:
        """Clip id → cosine, of the clips nearest to a text or to a clip."""
        query = Query(text=text) if by == "meaning" else Query(clip=text)
        hits = nearest_clips(self.dataset.url, query, count=MAX_NEAREST, decision="all")
        return {hit.clip["clip_id"]: hit.cosine for hit in hits}

    def _stamp(self) -> tuple[str, ...]:
        """Other files have another one."""
        layout, stamps = self.dataset.layout, []
        others = [Layout(self._beside).clips] if self._beside and not self._beside.isdigit() else []
        for url in (layout.clips, layout.index, layout.config, *others):
            fs, path = locate(url)
            fs.invalidate_cache(path)
            stamps.append(fs.ukey(path) if fs.exists(path) else "")
        return tuple(stamps)
