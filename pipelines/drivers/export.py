"""Clips and captions for other tools. The driver behind `reelpack export DATASET --out DIR`.

Layouts: `webdataset`, tars of samples; `folder`, `{split}/{videos|images}/<clip_id>.mp4` beside `<clip_id>.txt`, as
diffusion-pipe and musubi-tuner read them, and `metadata.jsonl` with the index rows.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.captions import CAPTION_COLUMNS
from curate.dataset.dataset import Dataset
from curate.dataset.layout import EncodedLayout, shard_name
from curate.dataset.sources import SOURCE, of_current
from curate.shards.export import caption_of, export_samples, export_shard, uniform_facts
from curate.shards.tar import TarReader, read_member
from curate.storage.lease import FOLDER as LEASES
from curate.storage.lease import hold
from curate.storage.place import children, locate
from curate.storage.publish import publish, write_text
from pipelines.console.progress import track
from pipelines.execute.base import batches
from train.data.fingerprint import fingerprint, is_stored
from train.data.index import PLACE, read_index

logger = logging.getLogger(__name__)

CLIPS_PER_SHARD = 256
Layout = Literal["webdataset", "folder"]
FOLDERS = {"video": "videos", "image": "images"}


def export(url: str, out: str, latents: str | None = None, layout: Layout = "webdataset") -> tuple[int, int]:
    """Write every indexed clip with its captions; returns how many clips, and how many of them have a caption.

    Args:
        url: the dataset directory.
        out: an empty or new folder, local or remote.
        latents: fingerprint of the latents to include, `auto` for the only ones; None for none. Clips without are
            left out.
        layout: of `out`.

    Raises:
        ValueError: `out` is not empty or being written, nothing is indexed, or the latents are not there.
    """
    if latents and layout == "folder":
        raise ValueError("--latents goes with --layout webdataset; a folder has clips and captions alone")
    dataset = Dataset(url)
    index = dataset.read_index()
    if not index.num_rows:
        raise ValueError(f"{dataset.url}: the index is empty, there is nothing to export")
    _check_empty(out)
    places = _latents(dataset, index, latents) if latents else None
    if places is not None:
        has_latent = pc.is_in(index["clip_id"], pa.array(sorted(places.rows), index["clip_id"].type))
        if missing := index.num_rows - pc.sum(has_latent).as_py():
            logger.warning("%d of %d clips have no such latents and are left out", missing, index.num_rows)
        index = index.filter(has_latent)
    index = index.sort_by([("split", "ascending"), ("clip_id", "ascending")])
    write = _write_tars if layout == "webdataset" else _write_folder
    with hold(out, "export"):
        _check_empty(out)  # of two exports, one is the first
        count = write(dataset, out.rstrip("/"), index, places)
        note = dataset.caption_note
        record = {"num_clips": count, "latents": latents, "source": dataset.url, "caption_note": note}
        write_text(f"{out.rstrip('/')}/dataset.json", json.dumps(record))
    return count, sum(bool(caption_of(row)) for row in index.select(CAPTION_COLUMNS).to_pylist())


def _check_empty(out: str) -> None:
    fs, path = locate(out)
    if fs.exists(path) and (not fs.isdir(path) or set(children(out)) - {LEASES}):
        raise ValueError(f"--out {out} is not an empty folder; give a new or an empty one")


class _Latents:
    """Stored latents by clip."""

    def __init__(self, root: str, rows: Mapping[str, Mapping[str, Any]]) -> None:
        self.rows = rows
        self._reader = TarReader(root)

    def payload(self, clip_id: str) -> bytes:
        return read_member(self._reader, self.rows[clip_id])


def _write_tars(dataset: Dataset, out: str, index: pa.Table, latents: _Latents | None) -> int:
    """`{split}-{n:06d}.tar`; returns the number of samples."""
    reader, facts = TarReader(dataset.layout.shards), uniform_facts(index)
    both = len(pc.unique(index["kind"])) > 1
    plans: list[tuple[str, Sequence[dict[str, Any]]]] = []
    for split, rows in groupby(index.to_pylist(), key=lambda row: row["split"]):
        plans += [(shard_name(split, n), part) for n, part in enumerate(batches(list(rows), CLIPS_PER_SHARD))]
    payload = None if latents is None else latents.payload
    written = (
        export_shard(f"{out}/{name}", export_samples(part, facts, reader, both=both, latent=payload))
        for name, part in plans
    )
    return sum(track(written, len(plans), "export"))


def _write_folder(dataset: Dataset, out: str, index: pa.Table, latents: _Latents | None) -> int:
    """Files of their own; returns the number of clips."""
    reader, facts = TarReader(dataset.layout.shards), uniform_facts(index)
    lines = list(track(_written(out, index.to_pylist(), facts, reader), index.num_rows, "export"))
    with publish(f"{out}/metadata.jsonl") as file:
        file.write("".join(f"{line}\n" for line in lines).encode())
    return len(lines)


def _written(
    out: str, rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Mapping[str, Any]], reader: TarReader
) -> Iterator[str]:
    """Write the clips; each one's line of `metadata.jsonl`."""
    for row in rows:
        stem = f"{row['split']}/{FOLDERS[row['kind']]}/{row['clip_id']}"
        for ext, data in ((row["ext"], read_member(reader, row)), ("txt", caption_of(row).encode())):
            with publish(f"{out}/{stem}.{ext}") as file:
                file.write(data)
        yield json.dumps({"file_name": f"{stem}.{row['ext']}", **facts[row["clip_id"]]}, sort_keys=True)


def _latents(dataset: Dataset, index: pa.Table, name: str) -> _Latents:
    root, record = fingerprint(dataset.url, "latents", name, "--latents")
    if not is_stored(record):
        raise ValueError(
            f"--latents {name}: {root} holds no latents, only their sizes (encode.store=false); run `reelpack encode "
            f"{dataset.url} --set encode.store=true`, and export those"
        )
    rows = read_index(EncodedLayout(root).index, "reelpack encode", ["clip_id"], PLACE, [SOURCE])
    return _Latents(root, {row["clip_id"]: row for row in of_current(rows, index).to_pylist()})
