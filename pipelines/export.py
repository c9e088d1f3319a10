"""A self-contained WebDataset of the indexed clips. The driver behind `reelpack export DATASET --out DIR`."""

import json
from collections.abc import Callable

import pyarrow as pa

from curate.lease import FOLDER as LEASES
from curate.lease import hold
from curate.place import children, locate
from curate.publish import write_text
from curate.shards.current import SOURCE, of_current
from curate.shards.export import export_shard
from curate.shards.tar import TarReader, read_member
from pipelines.dataset import Dataset
from pipelines.execute import batches
from pipelines.progress import track
from train.data.fingerprint import fingerprint, is_stored
from train.data.index import PLACE, read_index

CLIPS_PER_SHARD = 256


def export(url: str, out: str, latents: str | None = None) -> tuple[int, int]:
    """Write `{split}-{n:06d}.tar` of every indexed clip with its captions; returns how many clips, and how many of
    them have a caption.

    Args:
        url: the dataset directory.
        out: an empty or new folder, local or remote.
        latents: fingerprint of the latents to include, `auto` for the only ones; None for none.

    Raises:
        ValueError: `out` is not empty or being written, nothing is indexed, or the latents are not there.
    """
    dataset = Dataset(url)
    table = dataset.read("shards/index.parquet")
    index = table.to_pylist()
    if not index:
        raise ValueError(f"{dataset.url}: the index is empty, there is nothing to export")
    _check_empty(out)
    latent = _latents(dataset, table, latents) if latents else None
    reader = TarReader(dataset.shards_url)
    plans = []
    for split in ("train", "val"):
        rows = sorted((row for row in index if row["split"] == split), key=lambda row: row["clip_id"])
        plans += [(f"{split}-{n:06d}.tar", part) for n, part in enumerate(batches(rows, CLIPS_PER_SHARD))]
    with hold(out, "export"):
        _check_empty(out)  # of two exports, one is the first
        written = (export_shard(f"{out.rstrip('/')}/{name}", part, reader, latent) for name, part in plans)
        count = sum(track(written, len(plans), "export"))
        record = {"num_clips": count, "latents": latents, "source": dataset.url}
        write_text(f"{out.rstrip('/')}/dataset.json", json.dumps(record))
    return count, sum(bool(row["caption_dense"] or row["caption_short"]) for row in index)


def _check_empty(out: str) -> None:
    fs, path = locate(out)
    if fs.exists(path) and (not fs.isdir(path) or set(children(out)) - {LEASES}):
        raise ValueError(f"--out {out} is not an empty folder; give a new or an empty one")


def _latents(dataset: Dataset, index: pa.Table, name: str) -> Callable[[str], bytes | None]:
    root, record = fingerprint(dataset.url, "latents", name, "--latents")
    if not is_stored(record):
        raise ValueError(
            f"--latents {name}: {root} holds no latents, only their sizes (encode.store=false); run `reelpack encode "
            f"{dataset.url} --set encode.store=true`, and export those"
        )
    reader = TarReader(root)
    rows = read_index(f"{root}/index.parquet", "reelpack encode", ["clip_id"], PLACE, [SOURCE])
    places = {row["clip_id"]: row for row in of_current(rows, index).to_pylist()}

    def read(clip_id: str) -> bytes | None:
        row = places.get(clip_id)
        return read_member(reader, row) if row else None

    return read
