"""The manifest: what there is to train on, read from a dataset's tables and never from its tensors.

Three indices are joined by `clip_id`: the shards' (what is in the dataset, and in which split), the latents' and the
text embeddings' (where each tensor lies). Order and file names carry no meaning.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from train.data.draw import clip_keys
from train.segments import Patch

logger = logging.getLogger(__name__)

OR_SEVERAL = {"latents": ", or to a list of them", "text": ""}
REQUIRED = {"latents": "channels", "text": "dim"}
"""What training needs of a fingerprint.json."""
LATENT_SPACE = ("autoencoder_fingerprint", "channels", "temporal_stride", "spatial_stride")
"""What latents of one run agree in: clips may differ in size and rate."""
BALANCE = "balance_weight"
PLACE = ["clip_id", "shard", "offset", "size"]
SIDES = ["latent_t", "latent_h", "latent_w"]
CLIPS = pa.schema([("clip_id", pa.large_string()), ("kind", pa.large_string()), (BALANCE, pa.float64())])
CAPTIONS = ["caption_short", "caption_dense"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A dataset of a manifest."""

    name: str
    url: str
    latents: str  # fingerprint
    text: str  # fingerprint
    share: float | None = None  # of the samples that are met; None: as many as it has


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One split of a dataset at one fingerprint of latents and of text; sorted, so that equal data plan equally.

    Of several datasets (`train.data.mix`): their rows one after the other.
    """

    table: pa.Table
    grids: np.ndarray  # (N, 3) int64: patches of the model's size along (t, h, w)
    keys: np.ndarray  # (N,) uint64: names of the clips for draws
    weights: np.ndarray  # (N,) float64: how often an epoch is to meet each row, by the curation's balance
    sources: np.ndarray  # (N,) int64: the part of each row
    parts: tuple[Part, ...]
    labels: tuple[str, ...] | None = None  # names of the classes that the column "label" counts; None: numbers alone
    latents: dict[str, Any]  # the latents' fingerprint.json
    text: dict[str, Any]  # the text embeddings' fingerprint.json

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def num_tokens(self) -> np.ndarray:
        """(N,) int64."""
        return np.asarray(self.grids.prod(1))

    @property
    def clip_ids(self) -> list[str]:
        return self.table["clip_id"].to_pylist()

    def spread(self, max_rows: int) -> list[int]:
        """The first rows of each part in turn, ascending: no part crowds another out."""
        numbers = np.arange(len(self)) - np.searchsorted(self.sources, self.sources)
        return sorted(np.lexsort((self.sources, numbers))[:max_rows].tolist())

    def captions(self, rows: Sequence[int]) -> list[tuple[str | None, str | None]]:
        """Short and dense caption of some rows, read when they are asked for: training knows the embeddings alone."""
        clips = self.table["clip_id"].take(pa.array(rows, pa.int64())).to_pylist()
        found: dict[tuple[int, str], tuple[str | None, str | None]] = {}
        for number in np.unique(self.sources[list(rows)]).tolist():
            fs, path = url_to_fs(f"{self.parts[number].url}/shards/index.parquet")
            chosen = pc.field("clip_id").isin(sorted(set(clips)))
            table = pq.read_table(path, columns=["clip_id", *CAPTIONS], filters=chosen, filesystem=fs)
            found |= {(number, row["clip_id"]): (row[CAPTIONS[0]], row[CAPTIONS[1]]) for row in table.to_pylist()}
        return [found[int(self.sources[row]), clip] for row, clip in zip(rows, clips, strict=True)]

    def row(self, index: int) -> dict[str, Any]:
        return {name: column[index].as_py() for name, column in self._columns.items()}

    @cached_property
    def _columns(self) -> dict[str, pa.Array | pa.ChunkedArray]:
        """In one piece each: of many small ones, finding a row's takes longer than reading it."""
        return {name: self.table[name].combine_chunks() for name in self.table.column_names}

    @property
    def channels(self) -> int:
        return int(self.latents["channels"])

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
        text: fingerprint below `text/`; "auto" is the only one there.
        conditions: numbers of a clip that the model is steered by: columns of the index or of `clips.parquet`.
        label_column: what a clip is labelled by, likewise: becomes the column "label", as it is stored.
        allow_empty: a split without clips is no error.

    Raises:
        ValueError: an index is missing, damaged or has a clip twice, a fingerprint is missing, ambiguous or
            contradicts its folder, a latent is smaller than a patch, or no clip is left; the message says which step
            writes what is missing.
    """
    dataset = dataset.rstrip("/")
    encoded = _several(dataset, latents)
    latents_record = _joined([record for _, record in encoded])
    text_root, text_record = _fingerprint(dataset, "text", text)
    named = [*conditions, *([] if label_column is None else [label_column])]
    shards = _read_index(
        f"{dataset}/shards/index.parquet", "reelpack curate", ["clip_id"], [*CLIPS.names, "split"], [*PLACE, *named]
    )
    latent_index = pa.concat_tables(_latent_index(*one, number, shards) for number, one in enumerate(encoded))
    text_index = _read_index(f"{text_root}/index.parquet", "reelpack encode", ["clip_id"], PLACE)

    clips = _clips(dataset, shards, split, conditions, label_column)
    text_index = text_index.select(PLACE).rename_columns(["clip_id", "text_shard", "text_offset", "text_size"])
    table = _beside(latent_index, clips)
    table = _beside(table.filter(table["kind"].is_valid()), text_index)
    table = table.sort_by([(name, "ascending") for name in ("clip_id", *SIDES, "folder")])
    folder = table["folder"].combine_chunks()
    places = [root if is_stored(record) else f"{dataset}/shards" for root, record in encoded]
    to_encode = ["" if is_stored(record) else root for root, record in encoded]
    table = table.drop_columns(["folder"])
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
        table=table,
        grids=_grids(table, patch),
        keys=clip_keys(table["clip_id"]),
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
        numbers = _column(dataset, name, shards, clips["clip_id"], "train.model.conditions").cast(pa.float64())
        clips = clips.append_column(name, numbers)
    if label_column is not None:
        label = _column(dataset, label_column, shards, clips["clip_id"], "train.data.label_column")
        clips = clips.append_column("label", label)
    return clips


def _latent_index(root: str, record: dict[str, Any], number: int, shards: pa.Table) -> pa.Table:
    """Where a fingerprint's latents lie, or the clips that they are made of; `folder` is its number."""
    columns = [*PLACE, "fps", *SIDES]
    index = _read_index(f"{root}/index.parquet", "reelpack encode", ["clip_id", *SIDES], columns).select(columns)
    if not is_stored(record):
        index = _beside(index.drop_columns(PLACE[1:]), shards.select(PLACE)).select(columns)
        index = index.filter(index["shard"].is_valid())
    return index.append_column("folder", pa.array(np.full(index.num_rows, number, np.int32)))


def _beside(table: pa.Table, other: pa.Table) -> pa.Table:
    """`table` with the columns of `other`, which has each clip once; null where it has none. pyarrow's join takes four
    times as long and three times the memory."""
    rows = pc.index_in(table["clip_id"], value_set=other["clip_id"].combine_chunks())
    for name in other.column_names:
        if name != "clip_id":
            table = table.append_column(name, other[name].take(rows))
    return table


def is_stored(record: dict[str, Any]) -> bool:
    """Whether latents of this fingerprint.json lie in shards; else training encodes (`encode.store`)."""
    return bool(record.get("config", {}).get("store", True))


def _several(dataset: str, names: str | Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    """Folder and record of each fingerprint of latents that is asked for, sorted."""
    if names == "all":
        names = _found(dataset, "latents") or "auto"  # where there is none, "auto" says so
    names = [names] if isinstance(names, str) else sorted(set(names))
    return [_fingerprint(dataset, "latents", name) for name in names]


def _joined(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One record of latents that lie in one space.

    Raises:
        ValueError: they do not.
    """
    for record in records[1:]:
        if unlike := [name for name in LATENT_SPACE if record.get(name) != records[0].get(name)]:
            raise ValueError(
                f"train.data.latents: {records[0]['fingerprint']} and {record['fingerprint']} differ in "
                f"{', '.join(unlike)}; a run needs latents of one autoencoder"
            )
    return {**records[0], "fingerprint": "+".join(record["fingerprint"] for record in records)}


def _grids(table: pa.Table, patch: Patch) -> np.ndarray:
    sides = (table[f"latent_{axis}"].to_numpy() for axis in "thw")
    frames, rows, columns = sides
    # A frame that is left over fills a tubelet of its own, see train.patches.
    grids = np.stack([-(-frames // patch[0]), rows // patch[1], columns // patch[2]], axis=1).astype(np.int64)
    if not grids.all():
        clip = table["clip_id"][int(np.argmin(grids.min(1)))].as_py()
        raise ValueError(f"clip {clip}: its latent is smaller than one patch {tuple(patch)}; lower train.model.patch")
    return grids


def label_names(dataset: str, column: str) -> set[str] | None:
    """All names in a column of labels, whatever the split and whether encoded, so that classes keep their numbers
    while a dataset is encoded; None for a column of numbers."""
    url = f"{dataset.rstrip('/')}/shards/index.parquet"
    shards = _read_index(url, "reelpack curate", ["clip_id"], ["clip_id"], [column])
    values = _column(dataset.rstrip("/"), column, shards, shards["clip_id"], "train.data.label_column")
    if pa.types.is_integer(values.type):
        return None
    return set(values.cast(pa.string()).drop_null().to_pylist())


def _column(dataset: str, name: str, shards: pa.Table, clip_ids: pa.ChunkedArray, setting: str) -> pa.ChunkedArray:
    """A column of the index or of clips.parquet, in the order of `clip_ids`."""
    source = shards
    if name not in shards.column_names:
        url = f"{dataset}/clips.parquet"
        source = _read_index(url, "reelpack curate", ["clip_id"], ["clip_id"], [name])
        if name not in source.column_names:
            stored = sorted(_open_index(url, "reelpack curate").schema_arrow.names)
            raise ValueError(f"{setting}: {dataset} stores no {name!r}; it has {', '.join(stored)}")
    rows = pc.index_in(clip_ids, source["clip_id"].combine_chunks())
    return source[name].take(rows)


def _found(dataset: str, kind: str) -> list[str]:
    """The fingerprints below `dataset`/`kind`, sorted.

    Raises:
        ValueError: there is no such dataset.
    """
    fs, root = url_to_fs(f"{dataset}/{kind}")
    if not fs.exists(root) and not fs.exists(url_to_fs(f"{dataset}/shards")[1]):
        raise ValueError(f"{dataset}: no dataset here (there is no {dataset}/shards); `reelpack curate` makes one")
    return sorted(path.rstrip("/").split("/")[-2] for path in fs.glob(f"{root}/*/fingerprint.json"))


def _fingerprint(dataset: str, kind: str, name: str) -> tuple[str, dict[str, Any]]:
    """Folder and record of one fingerprint below `dataset`/`kind`."""
    found = _found(dataset, kind)
    if name == "auto" and len(found) == 1:
        name = found[0]
    if name not in found:
        problem = "there is none" if not found else f"there are {', '.join(found)}"
        remedy = (
            f"run `reelpack encode {dataset}`"
            if not found
            else f"set train.data.{kind} to one of them{OR_SEVERAL[kind]}"
        )
        raise ValueError(f"{dataset}/{kind}: got train.data.{kind}={name!r}, and {problem}; {remedy}")
    folder = f"{dataset}/{kind}/{name}"
    try:
        with fsspec.open(f"{folder}/fingerprint.json", "r") as file:
            record = json.load(file)
        found_name = record["fingerprint"]
        record[REQUIRED[kind]]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{folder}/fingerprint.json: not a record of {kind} ({type(error).__name__}: {error}); put it back, or "
            f"remove {folder} and run `reelpack encode {dataset}`"
        ) from error
    if found_name != name:
        raise ValueError(
            f"{folder}/fingerprint.json: got fingerprint {found_name!r}, expected {name!r}, the folder's name; the "
            "folder was renamed or mixed: encode again"
        )
    return folder, record


def _read_index(
    url: str, command: str, key: Sequence[str], columns: Sequence[str], others: Sequence[str] = ()
) -> pa.Table:
    """`columns` of a table, and those of `others` that it has; no row of the same `key` twice. Text is large_string:
    string columns end at 2 GiB."""
    file = _open_index(url, command)
    stored = file.schema_arrow.names
    if missing := [name for name in columns if name not in stored and name != BALANCE]:
        raise ValueError(
            f"{url}: got columns {', '.join(stored)}; expected {', '.join(missing)}, too: `{command}` writes them"
        )
    asked = {*columns, *others}
    try:
        table = file.read([name for name in stored if name in asked])
    except (OSError, pa.ArrowInvalid) as error:
        raise _unreadable(url, command, error) from error
    table = table.cast(pa.schema([field.with_type(_large(field.type)) for field in table.schema]))
    if pc.count_distinct(table["clip_id"]).as_py() == table.num_rows:
        return table
    groups = table.group_by(list(key)).aggregate([([], "count_all")])
    if groups.num_rows < table.num_rows:
        twice = groups.filter(pc.greater(groups["count_all"], 1))
        raise ValueError(
            f"{url}: {twice.num_rows} clips stand there more than once, such as {twice['clip_id'][0].as_py()}; "
            f"`{command}` writes each once"
        )
    return table


def _open_index(url: str, command: str) -> pq.ParquetFile:
    fs, path = url_to_fs(url)
    if not fs.exists(path):
        raise ValueError(f"{url}: no such index; `{command}` writes it")
    try:
        return pq.ParquetFile(path, filesystem=fs)
    except (OSError, pa.ArrowInvalid) as error:
        raise _unreadable(url, command, error) from error


def _unreadable(url: str, command: str, error: Exception) -> ValueError:
    return ValueError(f"{url}: cannot be read ({error}); `{command}` writes it again")


def _large(kind: pa.DataType) -> pa.DataType:
    return pa.large_string() if pa.types.is_string(kind) else kind
