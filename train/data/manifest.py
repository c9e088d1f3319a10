"""The manifest: what there is to train on, read from a dataset's tables and never from its tensors.

Three indices are joined by `clip_id`: the shards' (what is in the dataset, and in which split), the latents' and the
text embeddings' (where each tensor is stored). Order and file names carry no meaning.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.dataset.captions import TEXT_LEVELS, caption_column, texts_of
from curate.dataset.layout import EncodedLayout, Layout
from curate.dataset.sources import SOURCE, of_current
from curate.dataset.table import left_join
from curate.storage.place import locate
from train.data.compact import compact, plain, plain_value
from train.data.conditioning.base import ConditioningSettings
from train.data.draw import clip_keys, window_keys
from train.data.fingerprint import NO_TEXT, fingerprints, is_stored, joined, text_fingerprint
from train.data.index import BALANCE, PLACE, START, WINDOW, index_column, read_index
from train.data.tasks.base import GrayVideo
from train.packing.shapes import Patch

logger = logging.getLogger(__name__)

SIDES = ["latent_t", "latent_h", "latent_w"]
CLIPS = pa.schema([("clip_id", pa.large_string()), ("kind", pa.large_string()), (BALANCE, pa.float64())])


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A dataset of a manifest."""

    name: str
    url: str
    latents: str  # fingerprint
    text: str  # fingerprint
    share: float | None = None  # of the samples that are seen; None: as many as it has


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One split of a dataset at one fingerprint of latents and of text; sorted: equal data plan equally.

    Of several datasets (`train.data.mix`): their rows one after the other.
    """

    table: pa.Table  # compact, see `column` and `row`
    grids: np.ndarray  # (N, 3) int64: patches of the model's size along (t, h, w)
    keys: np.ndarray  # (N,) uint64: names of the clips for draws
    weights: np.ndarray  # (N,) float64: how often an epoch is to meet each row, by the curation's balance
    sources: np.ndarray  # (N,) int64: the part of each row
    parts: tuple[Part, ...]
    labels: tuple[str, ...] | None = None  # names of the classes that the column "label" counts; None: numbers alone
    latents: dict[str, Any]  # the latents' fingerprint.json
    text: dict[str, Any]  # the text embeddings' fingerprint.json
    conditioning: tuple[ConditioningSettings, ...] = ()  # each with a column of rows like these: what is shown as well
    gray: GrayVideo | None = None  # what held-out videos are generated from; None: they are generated as a whole

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def num_tokens(self) -> np.ndarray:
        """(N,) int64."""
        return np.asarray(self.grids.prod(1))

    @property
    def clip_ids(self) -> list[str]:
        ids: list[str] = self.column("clip_id").to_pylist()
        return ids

    def column(self, name: str) -> pa.ChunkedArray:
        """A column as the indices have it: `table` keeps fewer bytes (`train.data.compact`)."""
        return plain(self.table[name], self.table.schema.field(name))

    def spread(self, max_rows: int) -> list[int]:
        """The first rows of each part in turn, ascending: no part crowds another out."""
        numbers = np.arange(len(self)) - np.searchsorted(self.sources, self.sources)
        return sorted(np.lexsort((self.sources, numbers))[:max_rows].tolist())

    def captions(self, rows: Sequence[int]) -> list[dict[str, str]]:
        """Caption level → text of some rows, read when they are asked for: training knows the embeddings alone."""
        clips = self.of_rows(np.asarray(rows, np.int64)).clip_ids
        found: dict[tuple[int, str], dict[str, str]] = {}
        for number in np.unique(self.sources[list(rows)]).tolist():
            fs, path = locate(Layout(self.parts[number].url).index)
            chosen = pc.field("clip_id").isin(sorted(set(clips)))
            stored = pq.read_schema(path, filesystem=fs).names
            columns = ["clip_id", *(name for name in map(caption_column, TEXT_LEVELS) if name in stored)]
            table = pq.read_table(path, columns=columns, filters=chosen, filesystem=fs)
            found |= {(number, row["clip_id"]): texts_of(row) for row in table.to_pylist()}
        return [found[int(self.sources[row]), clip] for row, clip in zip(rows, clips, strict=True)]

    def row(self, index: int, names: Iterable[str] | None = None) -> dict[str, Any]:
        """A row by column; `names`: these columns alone."""
        schema = self.table.schema
        return {name: plain_value(self._columns[name][index], schema.field(name)) for name in names or self._columns}

    def of_rows(self, rows: np.ndarray) -> "Manifest":
        """Some of its rows, ascending."""
        return replace(
            self,
            table=self.table.take(rows),
            **{name: getattr(self, name)[rows] for name in ("grids", "keys", "weights", "sources")},
        )

    @staticmethod
    def conditioning_column(name: str) -> str:
        """Of rows of the latents that `name` is made of."""
        return f"conditioning_{name}"

    @property
    def latent_tables(self) -> list[pa.Table]:
        """All rows of latents that are read: its table, and for each conditioning latent one with the same columns."""
        columns = [self.table[self.conditioning_column(one.kind)] for one in self.conditioning]
        return [self.table, *map(pa.Table.from_struct_array, columns)]

    @property
    def conditioning_record(self) -> dict[str, Any]:
        """What samples are conditioned on, by name."""
        tables = zip(self.conditioning, self.latent_tables[1:], strict=True)
        return {one.kind: one.record(stored_fingerprints(table)) for one, table in tables}

    @cached_property
    def _columns(self) -> dict[str, pa.Array | pa.ChunkedArray]:
        """In one piece each: of many small ones, finding a row's takes longer than reading it."""
        return {name: self.table[name].combine_chunks() for name in self.table.column_names}

    @property
    def channels(self) -> int:
        return int(self.latents["channels"])

    @property
    def has_texts(self) -> bool:
        """Whether texts were embedded for any clip of its datasets."""
        return bool(self.text["fingerprint"] != NO_TEXT["fingerprint"])

    @property
    def text_dim(self) -> int:
        return int(self.text["dim"])


def read_manifest(
    dataset: str,
    *,
    split: str,
    patch: Patch,
    latents: str | Sequence[str] = "auto",
    text: str = "auto",
    conditions: Sequence[str] = (),
    label_column: str | None = None,
    allow_empty: bool = False,
) -> Manifest:
    """Join the indices of `dataset`.

    Args:
        dataset: local path or fsspec URL.
        split: "train" or "val".
        patch: the model's patch; a remainder of a latent's side that fills no patch is not trained on.
        latents: fingerprint below `latents/`; "auto" is the only one there. Of several ("all": of all that are there)
            a clip has a row for each, as where one index holds it at several sizes.
        text: fingerprint below `text/`; "auto" is the only one there. "none", or "auto" where there is none: no clip
            has a caption, and `Manifest.text` is `NO_TEXT`.
        conditions: numbers of a clip that the model is steered by: columns of the index or of `clips.parquet`.
        label_column: what a clip is labelled by, likewise: becomes the column "label", as it is stored.
        allow_empty: a split without clips is no error.

    Raises:
        ValueError: an index is missing, damaged or has a clip twice, a fingerprint is missing, ambiguous or
            contradicts its folder, a latent is smaller than a patch, or no clip is left; the message says which step
            writes what is missing.
    """
    dataset = dataset.rstrip("/")
    encoded = fingerprints(dataset, latents)
    latents_record = joined([record for _, record in encoded])
    text_root, text_record = text_fingerprint(dataset, text)
    named = [*conditions, *([] if label_column is None else [label_column])]
    layout, columns = Layout(dataset), [*CLIPS.names, "digest", "split"]
    shards = read_index(layout.index, "reelpack curate", ["clip_id"], columns, [*PLACE, *named])
    latent_index = pa.concat_tables(_latent_index(*one, number, shards) for number, one in enumerate(encoded))
    text_index = latent_index.schema.empty_table()
    if text_root:
        text_index = read_index(EncodedLayout(text_root).index, "reelpack encode", ["clip_id"], PLACE)

    clips = _clips(dataset, shards, split, conditions, label_column)
    text_index = text_index.select(PLACE).rename_columns(["clip_id", *(f"text_{name}" for name in PLACE[1:])])
    table = left_join(latent_index, clips, "clip_id")
    table = left_join(table.filter(table["kind"].is_valid()), text_index, "clip_id")
    table = table.sort_by([(name, "ascending") for name in ("clip_id", *SIDES, WINDOW, "folder")])
    folder = table["folder"].combine_chunks()
    places = [root if is_stored(record) else layout.shards for root, record in encoded]
    to_encode = ["" if is_stored(record) else root for root, record in encoded]
    names = [record["fingerprint"] for _, record in encoded]
    table = table.drop_columns(["folder"])
    table = table.append_column("fingerprint", pa.DictionaryArray.from_arrays(folder, names))
    table = table.append_column("latents_root", pa.DictionaryArray.from_arrays(folder, places))
    table = table.append_column("encode", pa.DictionaryArray.from_arrays(folder, to_encode))
    everywhere = pa.array(np.zeros(table.num_rows, np.int32))
    table = table.append_column("text_root", pa.DictionaryArray.from_arrays(everywhere, [text_root]))
    table = table.append_column("copy", pa.array(np.zeros(table.num_rows, np.int64)))
    if not table.num_rows and not allow_empty:
        roots = " or ".join(root for root, _ in encoded)
        raise ValueError(
            f"{dataset}: no clip of split {split!r} has latents under {roots} ({clips.num_rows} clips in the split, "
            f"{latent_index.num_rows} latents); run `reelpack encode {dataset}`"
        )
    missing = clips.num_rows - pc.count_distinct(table["clip_id"]).as_py()
    if missing:
        logger.warning("%s: %d of %d %s clips have no latents yet", dataset, missing, clips.num_rows, split)
    return Manifest(
        table=compact(table),
        grids=_grids(table, patch),
        keys=window_keys(clip_keys(table["clip_id"]), table[WINDOW].to_numpy()),
        weights=pc.fill_null(table[BALANCE], 1.0).to_numpy(),
        sources=np.zeros(table.num_rows, np.int64),
        parts=(
            Part(
                name=dataset.rpartition("/")[2],
                url=dataset,
                latents=latents_record["fingerprint"],
                text=text_record["fingerprint"],
            ),
        ),
        latents=latents_record,
        text=text_record,
    )


def _clips(
    dataset: str, shards: pa.Table, split: str, conditions: Sequence[str], label_column: str | None
) -> pa.Table:
    """The clips of a split with their captions, weights, conditions and labels."""
    if BALANCE not in shards.column_names:  # made by another tool
        shards = shards.append_column(BALANCE, pa.array(np.ones(shards.num_rows)))
    clips = shards.filter(pc.equal(shards["split"], split)).select(CLIPS.names).cast(CLIPS)
    for name in conditions:
        numbers = index_column(dataset, name, shards, clips["clip_id"], "train.model.conditions").cast(pa.float64())
        clips = clips.append_column(name, numbers)
    if label_column is not None:
        label = index_column(dataset, label_column, shards, clips["clip_id"], "train.data.label_column")
        clips = clips.append_column("label", label)
    return clips


def _latent_index(root: str, record: dict[str, Any], number: int, shards: pa.Table) -> pa.Table:
    """Where a fingerprint's latents are stored, or the clips that they are made of; `folder` is its number, `part` how
    much of the clip's length a latent shows, from frame `start_frame` on."""
    columns, key = [*PLACE, "fps", *SIDES, WINDOW], ["clip_id", *SIDES, WINDOW]
    frames = ["num_frames", "clip_frames"] if record.get("config", {}).get("windows") == "all" else []
    index = read_index(EncodedLayout(root).index, "reelpack encode", key, [*columns, *frames], [SOURCE, START])
    index = of_current(index, shards)
    if START not in index.column_names:  # made by another tool
        index = index.append_column(START, pa.array(np.zeros(index.num_rows)))
    index = index.set_column(index.column_names.index(START), START, index[START].cast(pa.int64()))
    part = np.divide(*(index[name].to_numpy() for name in frames)) if frames else np.ones(index.num_rows)
    columns = [*columns, START, "part"]
    index = index.append_column("part", pa.array(part, pa.float64())).select(columns)
    if not is_stored(record):
        index = left_join(index.drop_columns(PLACE[1:]), shards.select(PLACE), "clip_id").select(columns)
        index = index.filter(index["shard"].is_valid())
    return index.append_column("folder", pa.array(np.full(index.num_rows, number, np.int32)))


def _grids(table: pa.Table, patch: Patch) -> np.ndarray:
    sides = (table[f"latent_{axis}"].to_numpy() for axis in "thw")
    frames, rows, columns = sides
    # A frame that is left over fills a tubelet of its own, see train.patches.
    grids = np.stack([-(-frames // patch[0]), rows // patch[1], columns // patch[2]], axis=1).astype(np.int64)
    if not grids.all():
        clip = table["clip_id"][int(np.argmin(grids.min(1)))].as_py()
        raise ValueError(f"clip {clip}: its latent is smaller than one patch {tuple(patch)}; lower train.model.patch")
    return grids


def stored_fingerprints(table: pa.Table) -> list[str]:
    """Of the latents that rows of a manifest point at."""
    return sorted(pc.unique(table["fingerprint"].cast(pa.large_string())).to_pylist())


def label_names(dataset: str, column: str) -> set[str] | None:
    """All names in a column of labels, of all splits, encoded or not: classes keep their numbers
    while a dataset is encoded; None for a column of numbers."""
    url = Layout(dataset).index
    shards = read_index(url, "reelpack curate", ["clip_id"], ["clip_id"], [column])
    values = index_column(dataset.rstrip("/"), column, shards, shards["clip_id"], "train.data.label_column")
    if pa.types.is_integer(values.type):
        return None
    return set(values.cast(pa.string()).drop_null().to_pylist())
