"""A dataset: its rows as Arrow tables, and its clips."""

import os
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

from curate.dataset.dataset import Dataset as Tables
from curate.errors import Missing
from reelpack.running import running

if TYPE_CHECKING:
    import pyarrow as pa

    from curate.dataset.versions import Difference, Version
    from reelpack.clip import Clip

ROWS = 256
"""Rows that are Python objects at a time."""


class Dataset:
    """A dataset that `curate` makes. Reads, never writes; nothing is kept in memory.

    Args:
        url: its directory, a local path or an fsspec URL.

    Raises:
        NotADataset: there is none.
    """

    def __init__(self, url: "str | os.PathLike[str]") -> None:
        self._tables = Tables(os.fspath(url))
        self.url = self._tables.url
        if not {"curate", "running"} & self._tables.sections().keys():
            self._tables.read_index()

    def clips(self, where: str | None = None, columns: Sequence[str] | None = None) -> "pa.Table":
        """Every clip, with its decision, reasons, scores, your own columns, and of those that are cut the place in a
        shard and the captions.

        Args:
            where: a condition of SQL over all columns: `"decision = 'keep' and motion > 0.1"`. None: all clips.
            columns: those to return; None: all.

        Raises:
            Missing: no run of `curate` has come to its end.
            ValueError: no such column; the message has the nearest one.
        """
        from curate.dataset.table import left_join

        clips = self._tables.read_clips()
        if self._tables.is_decided():
            index = self._tables.read_index()
            others = [name for name in index.column_names if name == "clip_id" or name not in clips.column_names]
            clips = left_join(clips, index.select(others), "clip_id")
        return _chosen(clips, where, columns)

    def kept(self, where: str | None = None, columns: Sequence[str] | None = None) -> "pa.Table":
        """The clips that are kept and cut: what is captioned, encoded and trained on. Size, rate and length are those
        of the clip as it is cut; else as `clips`."""
        from curate.dataset.where import all_columns

        return _chosen(all_columns(self._tables, self._tables.read_index()), where, columns)

    def videos(self, where: str | None = None, columns: Sequence[str] | None = None) -> "pa.Table":
        """Every input file: its URI, what is known of it, its outcome and the reason of a failure."""
        from curate.dataset.scans import current_videos
        from pipelines.dataset import config_of

        rows = current_videos(self._tables, config_of(self._tables, or_running=True).scan)
        return _chosen(rows.drop_columns(["scan_key"]), where, columns)

    def scores(self, name: str | None = None, where: str | None = None) -> "pa.Table":
        """What is measured of every clip: `clip_id`, and the numbers that rules of `select` judge.

        Args:
            name: of one scorer, such as `embedding`: its columns as they are stored, vectors too. None: all numbers.
            where: a condition over the columns that are returned.

        Raises:
            Missing: there is no such scorer; the message names those that there are.
        """
        from curate.columns import COLUMNS

        if name is None:
            clips = self._tables.read_clips()
            return _chosen(clips, where, ["clip_id", *(one for one in clips.column_names if one in COLUMNS)])
        families = self._tables.families(or_running=True)
        found = next((family for family in families if family.rpartition("-")[0] == name), None)
        if found is None:
            there_are = ", ".join(sorted(family.rpartition("-")[0] for family in families)) or "none"
            raise Missing(
                f"{self.url}: no scores of {name}; there are {there_are}. `reelpack curate` computes others: "
                f"--set 'score.scorers.{name}={{}}'"
            )
        return _chosen(self._tables.scores(found, families[found]).read(), where, None)

    def captions(self, where: str | None = None) -> "pa.Table":
        """Every caption of the kept clips, with `clip_id`, `level`, `variant`, `text`, its `status` (`ok`: it is used)
        and what wrote it.

        Raises:
            Missing: `caption` has not run.
        """
        if not self._tables.current_captions[1:] and not self._tables.caption_families():
            raise Missing(f"{self.url} has no captions; `reelpack caption {self.url}` writes them")
        return _chosen(self._tables.current_records(self._tables.read_index()), where, None)

    def latents(self, fingerprint: str = "auto", where: str | None = None) -> "pa.Table":
        """The index of encoded clips: place, shape and tokens of each latent.

        Args:
            fingerprint: of the latents; `auto`: the only ones.
            where: a condition over its columns.

        Raises:
            Missing: `encode` has not run.
            ValueError: there are several; the message names them.
        """
        from train.data.fingerprint import fingerprint as found

        _, record = found(self.url, "latents", fingerprint, "fingerprint")
        index = self._tables.encoded_index("latents", record["fingerprint"])
        if index is None:
            raise Missing(f"{self.url}: `encode` was stopped before its end; `reelpack encode {self.url}` finishes it")
        return _chosen(index, where, None)

    def versions(self) -> "tuple[Version, ...]":
        """The versions of the decision, the first one first: when, by which command, the settings, the counts."""
        from curate.dataset.versions import versions

        return tuple(versions(self._tables))

    def diff(self, old: int, new: int) -> "Difference":
        """What version `new` keeps that `old` does not (`came`), and the other way round (`left`), by reason, with
        the ids.

        Raises:
            ValueError: there is no such version.
        """
        from curate.dataset.versions import difference

        return difference(self._tables, old, new, ids=True)

    def clip(self, clip_id: str) -> "Clip":
        """A kept clip by its id, or a beginning of it that no other has.

        Raises:
            ValueError: no clip, or several, have an id that begins so, or the clip is not kept and cut.
        """
        from pipelines.inspection.explain import find_clip, with_beginning

        kept = self.kept()
        if not with_beginning(kept, clip_id).num_rows:
            row = find_clip(self._tables.read_clips(), clip_id, self.url)
            told = f"{row['decision']}{': ' if row['reasons'] else ''}{', '.join(row['reasons'])}"
            raise ValueError(f"clip {row['clip_id']} of {self.url} is in no shard ({told}); `clips()` has its row")
        return self._clip(find_clip(kept, clip_id, self.url))

    def iterate(self, where: str | None = None) -> "Iterator[Clip]":
        """The kept clips, or those that meet a condition, in order of id."""
        rows = self.kept(where)
        for start in range(0, rows.num_rows, ROWS):
            yield from map(self._clip, rows.slice(start, ROWS).to_pylist())

    def __iter__(self) -> "Iterator[Clip]":
        return self.iterate()

    def __len__(self) -> int:
        """Number of kept clips."""
        return int(self._tables.read_index().num_rows)

    def __repr__(self) -> str:
        return f"Dataset({self.url!r})"

    def _clip(self, row: "dict[str, object]") -> "Clip":
        from curate.shards.tar import TarReader
        from reelpack.clip import Clip

        return Clip(row=row, _reader=TarReader(self._tables.layout.shards))


def url_of(dataset: "Dataset | str | os.PathLike[str]") -> str:
    return dataset.url if isinstance(dataset, Dataset) else os.fspath(dataset)


def _chosen(table: "pa.Table", where: str | None, columns: Sequence[str] | None) -> "pa.Table":
    from curate.dataset.where import where as meeting

    if where is not None:
        with running("export"):
            table = meeting(table, where)
    if columns is None:
        return table
    columns = [columns] if isinstance(columns, str) else list(columns)
    if unknown := [name for name in columns if name not in table.column_names]:
        nearest = get_close_matches(unknown[0], table.column_names, 1, 0.5)
        hint = f"the nearest is {nearest[0]}" if nearest else f"there are {', '.join(table.column_names)}"
        raise ValueError(f"there is no column {unknown[0]}; {hint}")
    return table.select(columns)
