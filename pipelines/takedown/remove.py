"""What a dataset has of some clips and URIs, removed: tars are written without them, rows erased, and what was made of
them as a whole is gone.

A kill leaves a dataset that the same call completes. A tar gets a new name: until the index names that, the old one is
there, and no reader finds other bytes at an offset than were written.
"""

import json
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.dataset import Dataset
from curate.dataset.forgotten import relocated, without
from curate.dataset.layout import ENCODED, is_shard, next_numbers, shard_name, shard_split
from curate.dataset.sources import DIGEST
from curate.dataset.store import Table, write_parquet
from curate.dataset.table import read_parquet
from curate.export.folder import RECORD, UNFINISHED
from curate.shards.rewrite import copy_without, members_of
from curate.shards.tar import BLOCK_BYTES, END, sample_key
from curate.storage.place import children, locate
from curate.storage.publish import publish, remove_files, remove_folder, unfinished_name
from pipelines.console.progress import track

REVIEW = "review.jsonl"
"""What a report saves of judged captions, where a user put it into the dataset."""
NUM_READERS = 16
"""Tars whose headers are read at the same time."""


def clear_shards(dataset: Dataset, clip_ids: Collection[str]) -> list[str]:
    """Write the tars of clips without these, and give the index the new locations; returns the tars that are gone."""
    folder, shards, plans = dataset.layout.shards, dataset.shards, dataset.shard_plans
    rows = shards.read(["shard"])
    of_these = rows.filter(pc.is_in(rows["clip_id"], _array(clip_ids)))
    named, theirs = set(rows["shard"].to_pylist()), set(of_these["shard"].to_pylist())
    # A clip is in the tars that rows name, and in those that a kill left without rows.
    tars = _with_members(folder, (name for name in _tars(folder) if name in theirs or name not in named), clip_ids)
    taken = [*named, *plans.read(["shard"])["shard"].to_pylist()]
    renamed = _write_without(folder, shards, tars, clip_ids, taken)
    planned = plans.read()
    planned = planned.filter(pc.is_in(planned["shard"], _array(renamed)))
    plans.publish({**row, "shard": renamed[row["shard"]]} for row in planned.to_pylist())
    for table in (shards, plans):
        table.erase("clip_id", clip_ids)
    _rewrite_derived(dataset, clip_ids)
    remove_files(f"{folder}/{name}" for name in tars)
    return [f"shards/{name}" for name in tars]


def _rewrite_derived(dataset: Dataset, clip_ids: Collection[str]) -> None:
    """`clips.parquet` and the index without these clips, whatever was decided."""
    clips = read_parquet(dataset.layout.clips)
    if clips is not None:
        write_parquet(dataset.layout.clips, without(clips, "clip_id", clip_ids))
    with dataset.commit():
        index = read_parquet(dataset.layout.index)
        if index is not None:
            key = ["clip_id", DIGEST if DIGEST in index.column_names else "size"]
            index = relocated(without(index, "clip_id", clip_ids), dataset.shards.read(), key)
            write_parquet(dataset.layout.index, index)


def clear_encoded(dataset: Dataset, clip_ids: Collection[str]) -> list[str]:
    """The same for all latents and text embeddings. An index names a clip's newest latents alone; older ones can
    be in any tar that is larger than what its rows name."""
    gone = []
    for kind in ENCODED:
        for fingerprint in dataset.fingerprints(kind):
            layout, table = dataset.layout.encoded(kind, fingerprint), dataset.encoded(kind, fingerprint)
            rows = table.read(["shard", "size"])
            named = pc.unique(rows["shard"].drop_null()).to_pylist()
            theirs = set(rows.filter(pc.is_in(rows["clip_id"], _array(clip_ids)))["shard"].to_pylist())
            explained = _sizes(rows)
            looked_at = [n for n, size in _tars(layout.url).items() if n in theirs or size != explained.get(n)]
            tars = _with_members(layout.url, looked_at, clip_ids)
            _write_without(layout.url, table, tars, clip_ids, named)
            table.erase("clip_id", clip_ids)
            index = dataset.encoded_index(kind, fingerprint)
            if index is not None:
                key = [name for name in table.key if name in index.column_names]
                write_parquet(layout.index, relocated(without(index, "clip_id", clip_ids), table.read(), key))
            remove_files(f"{layout.url}/{name}" for name in tars)
            gone += [f"{kind}/{fingerprint}/{name}" for name in tars]
    return gone


def erase_rows(dataset: Dataset, clip_ids: Collection[str], uris: Collection[str]) -> None:
    """Remove the rows of clips and files from all tables that hold any."""
    for name in dataset.score_families():
        dataset.scores(name, {}).erase("clip_id", clip_ids)
    for name in dataset.caption_families():
        dataset.captions(name).erase("clip_id", clip_ids)
    dataset.decisions.erase("clip_id", clip_ids)
    dataset.failures.erase("subject", {*clip_ids, *uris})
    erase_own(dataset, uris)
    dataset.clips.erase("clip_id", clip_ids)
    for table in (dataset.videos, dataset.identities):
        table.erase("uri", uris)


def erase_own(dataset: Dataset, uris: Collection[str]) -> None:
    """Remove the user's own columns of files."""
    own = dataset.sidecar()
    if own is not None and pc.any(pc.is_in(own["uri"], _array(uris))).as_py():
        write_parquet(dataset.layout.sidecar, without(own, "uri", uris))


def remove_made(dataset: Dataset) -> list[str]:
    """Remove what was made of many clips at once and can be made again: the cache, the report, exports below the
    dataset, and files that a killed writer left half-written. Returns what a user made."""
    files = _files(dataset)
    remove_files(f"{dataset.url}/{path}" for path in files if unfinished_name(path.rpartition("/")[2]) is not None)
    remove_folder(dataset.layout.caches)
    made = sorted({folder for path in files if (folder := _export_of(dataset, path))})
    made += ["report"] if any(path.startswith("report/") for path in files) else []
    for folder in made:
        remove_folder(f"{dataset.url}/{folder}")
    return made


def left_over(dataset: Dataset, clip_ids: Collection[str], uris: Collection[str]) -> Iterator[str]:
    """Tables, indices and tars that hold some of these clips or files, by their place in the dataset."""
    layout, begin = dataset.layout, f"{dataset.url}/"
    by_clip = [dataset.clips, dataset.shards, dataset.shard_plans, dataset.decisions]
    by_clip += [dataset.scores(name, {}) for name in dataset.score_families()]
    by_clip += [dataset.captions(name) for name in dataset.caption_families()]
    folders, files = [layout.shards], [layout.clips, layout.index]
    for kind in ENCODED:
        for fingerprint in dataset.fingerprints(kind):
            by_clip.append(dataset.encoded(kind, fingerprint))
            folders.append(layout.encoded(kind, fingerprint).url)
            files.append(layout.encoded(kind, fingerprint).index)
    wanted = [(table, "clip_id", clip_ids) for table in by_clip]
    wanted += [(dataset.failures, "subject", {*clip_ids, *uris})]
    wanted += [(table, "uri", uris) for table in (dataset.videos, dataset.identities)]
    yield from (table.url.removeprefix(begin) for table, column, values in wanted if table.has(column, values))
    for url, column, values in [*((file, "clip_id", clip_ids) for file in files), (layout.sidecar, "uri", uris)]:
        rows = read_parquet(url, [column])
        if rows is not None and pc.any(pc.is_in(rows[column], _array(values))).as_py():
            yield url.removeprefix(begin)
    for folder in folders:
        yield from (f"{folder}/{name}".removeprefix(begin) for name in _with_members(folder, _tars(folder), clip_ids))


def clear_reviews(dataset: Dataset, clip_ids: Collection[str]) -> None:
    """Remove the lines of these clips from the review.jsonl of a report that lie below the dataset."""
    for path in _files(dataset):
        if path.rpartition("/")[2] == REVIEW:
            fs, local = locate(f"{dataset.url}/{path}")
            lines = fs.cat_file(local).splitlines(keepends=True)
            kept = [line for line in lines if not any(name.encode() in line for name in clip_ids)]
            if len(kept) < len(lines):
                with publish(f"{dataset.url}/{path}") as file:
                    file.write(b"".join(kept))


def unknown(dataset: Dataset) -> list[str]:
    """Entries of the folder that no part of reelpack wrote: what is in them stays."""
    layout = dataset.layout
    known = {REVIEW, "cache", "report", ".leases", "shards", "tables", *ENCODED}
    return sorted({*children(dataset.url)} - known - {url.rpartition("/")[2] for url in (layout.clips, layout.config)})


def _files(dataset: Dataset) -> list[str]:
    fs, root = locate(dataset.url)
    fs.invalidate_cache()
    return [path.removeprefix(root).lstrip("/") for path in fs.find(root)]


def _export_of(dataset: Dataset, path: str) -> str | None:
    """The folder of the export that a file says it is of, in the dataset."""
    folder, _, name = path.rpartition("/")
    if folder.endswith(UNFINISHED) and name == "plan.json":
        return folder.rpartition("/")[0] or None
    if not folder or name != RECORD:
        return None
    fs, local = locate(f"{dataset.url}/{path}")
    try:
        return folder if "plan" in json.loads(fs.cat_file(local)) else None
    except (ValueError, TypeError):
        return None


def _tars(folder: str) -> dict[str, int]:
    """Names of the tars in a folder, sorted, and their bytes."""
    fs, path = locate(folder)
    fs.invalidate_cache(path)
    try:
        entries = fs.ls(path, detail=True)
    except FileNotFoundError:
        return {}
    sizes = {entry["name"].rstrip("/").rpartition("/")[2]: entry["size"] for entry in entries}
    return {name: sizes[name] for name in sorted(sizes) if is_shard(name)}


def _sizes(rows: pa.Table) -> dict[str, int]:
    """Bytes of the tars that hold one member for each of these rows, and no other."""
    rows = rows.filter(pc.is_valid(rows["shard"]))
    blocks = pc.divide(pc.add(rows["size"], BLOCK_BYTES - 1), BLOCK_BYTES)
    members = pa.table({"shard": rows["shard"], "bytes": pc.multiply(pc.add(blocks, 1), BLOCK_BYTES)})
    sums = members.group_by("shard").aggregate([("bytes", "sum")])
    return {
        shard: size + len(END) for shard, size in zip(*(sums[n].to_pylist() for n in sums.column_names), strict=True)
    }


def _with_members(folder: str, names: Iterable[str], clip_ids: Collection[str]) -> list[str]:
    """Those of the tars that have members of these clips."""
    some, looked_at = frozenset(clip_ids), list(names)
    with ThreadPoolExecutor(NUM_READERS) as readers:
        found = list(readers.map(lambda name: bool(members_of(f"{folder}/{name}", some)), looked_at))
    return [name for name, has_some in zip(looked_at, found, strict=True) if has_some]


def _write_without(
    folder: str, table: Table, tars: Collection[str], clip_ids: Collection[str], taken: Iterable[str]
) -> dict[str, str]:
    """Write those tars again that have further clips, under new names, and publish the rows of these.

    Args:
        folder: of the tars.
        table: has their rows.
        tars: that hold some of the clips.
        clip_ids: these.
        taken: names of tars that are not used again.

    Returns:
        Old name → new name.
    """
    numbers, renamed, moved = next_numbers(taken), dict[str, str](), list[dict[str, Any]]()
    staying = without(table.read(), "clip_id", clip_ids)
    staying = staying.filter(pc.is_in(staying["shard"], _array(tars)))
    names = sorted(set(staying["shard"].to_pylist()))
    for name in track(names, len(names), "tars written"):
        rows = staying.filter(pc.equal(staying["shard"], name)).to_pylist()
        split = shard_split(name)
        new = shard_name(split, numbers[split])
        offsets = copy_without(f"{folder}/{name}", f"{folder}/{new}", frozenset(clip_ids))
        for row in rows:
            member = f"{sample_key(row)}.{row.get('ext', 'safetensors')}"
            if member not in offsets:
                raise ValueError(
                    f"{folder}/{name}: member {member} of the table is not in the tar; put back the tar that was "
                    "there, and run this again"
                )
            moved.append({**row, "shard": new, "offset": offsets[member]})
        renamed[name] = new
        numbers[split] += 1
    table.publish(moved)
    return renamed


def _array(values: Iterable[str]) -> pa.Array:
    return pa.array(sorted(values), pa.string())
