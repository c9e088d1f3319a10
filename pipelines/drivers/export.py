"""Clips and captions for other tools. The driver behind `reelpack export DATASET --out DIR`."""

import hashlib
import json
import logging
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import repeat
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.captions import TEXT_LEVELS, CaptionLevel
from curate.dataset.dataset import Dataset
from curate.dataset.layout import EncodedLayout
from curate.dataset.sources import SOURCE, of_current
from curate.dataset.where import all_columns, where
from curate.export.base import Layout
from curate.export.card import Origin, card
from curate.export.folder import RECORD, Folder
from curate.export.hub import check_local, push, repository
from curate.export.shard_size import ShardSize
from curate.export.source import SPLIT_NAMES, Source, captioned
from curate.export.webdataset import WebDatasetLayout
from curate.shards.tar import TarReader, read_member
from curate.storage.access import public
from curate.storage.lease import hold
from curate.storage.place import is_url, local_path, locate
from curate.storage.publish import write_text
from pipelines.console.progress import track
from pipelines.inputs.sources import absolute
from pipelines.provenance import provenance
from train.data.fingerprint import fingerprint, is_stored
from train.data.index import PLACE, WINDOW, read_index

logger = logging.getLogger(__name__)

NUM_WRITERS = 8
"""Of small files: each waits for the disk, or for the store."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """Which clips are exported, and with what.

    Attributes:
        where: a condition of SQL over all columns; None: every clip of the index.
        split: `train` or `val`; None: both.
        level: of captions; None: the most detailed that a clip has.
        latents: fingerprint of the latents to include, `auto` for the only ones; None for none. Clips without are left
            out.
        shard_size: of files that hold several clips; None: as the layout has it.
    """

    where: str | None = None
    split: str | None = None
    level: CaptionLevel | None = None
    latents: str | None = None
    shard_size: ShardSize | None = None


def choice_of(
    where: str | None, split: str | None, level: str | None, latents: str | None, shard_size: str | None
) -> Choice:
    """The choice that the options of the command make.

    Raises:
        ValueError: there is no such split or level, or the size is none.
    """
    splits = {name: one for one, other in SPLIT_NAMES.items() for name in (one, other)}
    if split is not None and split not in splits:
        raise ValueError(f"--split {split}: expected one of {', '.join(splits)}")
    found = next((one for one in TEXT_LEVELS if one == level), None)
    if level is not None and found is None:
        raise ValueError(f"--caption-level {level}: expected one of {', '.join(TEXT_LEVELS)}")
    size = None if shard_size is None else ShardSize.parse(shard_size)
    return Choice(
        where=where, split=None if split is None else splits[split], level=found, latents=latents, shard_size=size
    )


def export(
    url: str,
    out: str,
    layout: Layout = WebDatasetLayout(),  # noqa: B008  frozen
    choice: Choice = Choice(),
    push_to: str | None = None,
) -> tuple[int, int]:
    """Write clips with their captions; returns how many clips, and how many of them have a caption.

    An export that was stopped resumes: files that are there are not written again.

    Args:
        url: the dataset directory.
        out: an empty or new folder, local or remote, or one in which the same export was stopped.
        layout: of `out`.
        choice: which clips, and what of them.
        push_to: a repository of the Hugging Face hub that gets the folder; None: none.

    Raises:
        ValueError: `out` holds something else or is being written, nothing is to be exported, the latents are not
            there, or the hub does not take it.
    """
    if choice.latents and not layout.takes_latents:
        raise ValueError(f"--latents goes with --to webdataset or energon; {layout.kind} has clips and captions alone")
    name = None if push_to is None else repository(push_to)
    if name is not None:
        check_local(out)
    dataset = Dataset(url)
    source = _source(dataset, out, layout, choice)
    layout.check(source)
    count, num_captioned = source.index.num_rows, captioned(source.index, source.level)
    folder = Folder(out, _plan(dataset, source, layout, choice))
    if not folder.is_finished():
        with hold(folder.url, "export") as lease:
            if not folder.is_finished():  # of two exports, one is the first
                _write(folder, layout, source, choice, _origin(dataset, source, choice))
                lease.check()
                folder.finish()
    if name is not None:
        logger.info("pushed to %s", push(folder.url, name))
    return count, num_captioned


def _write(folder: Folder, layout: Layout, source: Source, choice: Choice, origin: Origin) -> None:
    """Write all files; they do not appear yet where the folder can be hidden."""
    folder.begin()
    for _ in track(_written(folder, layout, source), source.index.num_rows, "export"):
        pass
    write_text(folder.place("README.md"), card(layout, source, origin))
    record = {
        "num_clips": source.index.num_rows,
        "layout": layout.model_dump(mode="json"),
        "source": origin.name,
        "where": choice.where,
        "split": choice.split,
        "latents": choice.latents,
        "caption_level": choice.level,
        "caption_note": origin.caption_note,
        **provenance(),
        "plan": folder.plan,
    }
    write_text(folder.place(RECORD), json.dumps(record, indent=2))


def _written(folder: Folder, layout: Layout, source: Source) -> Iterator[None]:
    """Write what is not there yet, small files several at once; an item for each clip that is done."""
    with ThreadPoolExecutor(NUM_WRITERS) as writers:
        waiting: deque[tuple[Future[None], int]] = deque()
        for file in layout.files(source):
            if folder.has(file.name):
                yield from repeat(None, file.num_clips)
                continue
            waiting.append((writers.submit(file.write, folder.place(file.name)), file.num_clips))
            yield from _done(waiting, at_most=0 if file.num_clips > 1 else 2 * NUM_WRITERS)
        yield from _done(waiting, at_most=0)


def _done(waiting: deque[tuple[Future[None], int]], *, at_most: int) -> Iterator[None]:
    """Wait until at most so many files are being written."""
    while len(waiting) > at_most:
        written, num_clips = waiting.popleft()
        written.result()
        yield from repeat(None, num_clips)


def _source(dataset: Dataset, out: str, layout: Layout, choice: Choice) -> Source:
    index = dataset.read_index()
    if not index.num_rows:
        raise ValueError(f"{dataset.url}: the index is empty, there is nothing to export")
    if choice.where is not None:
        index = where(all_columns(dataset, index), choice.where).select(index.column_names)
        if not index.num_rows:
            raise ValueError(f"--where {choice.where!r}: no clip meets it; a value that is not known meets nothing")
    if choice.split is not None:
        index = index.filter(pc.equal(index["split"], choice.split))
        if not index.num_rows:
            raise ValueError(f"--split {choice.split}: no clip is in it")
    places = _latents(dataset, index, choice.latents) if choice.latents else None
    if places is not None:
        has_latent = pc.is_in(index["clip_id"], pa.array(sorted(places.rows), index["clip_id"].type))
        if missing := index.num_rows - pc.sum(has_latent).as_py():
            logger.warning("%d of %d clips have no such latents and are left out", missing, index.num_rows)
        index = index.filter(has_latent)
    return Source(
        index=index.sort_by([("split", "ascending"), ("clip_id", "ascending")]),
        reader=TarReader(dataset.layout.shards),
        out=out.rstrip("/") if is_url(out) else local_path(out),
        shard_size=choice.shard_size or layout.shard_size,
        level=choice.level,
        latents=None if places is None else places.payloads,
    )


def _plan(dataset: Dataset, source: Source, layout: Layout, choice: Choice) -> str:
    """Names what is exported: equal clips, captions and settings have equal names."""
    fs, path = locate(dataset.layout.index)
    digest = hashlib.sha256()
    with fs.open(path, "rb") as file:
        for block in iter(lambda: file.read(2**20), b""):
            digest.update(block)
    settings = {"layout": layout.model_dump(mode="json"), "choice": asdict(choice), "out": source.out}
    digest.update(json.dumps(settings, sort_keys=True).encode())
    digest.update("".join(source.index["clip_id"].to_pylist()).encode())
    return digest.hexdigest()[:32]


def _origin(dataset: Dataset, source: Source, choice: Choice) -> Origin:
    policy = dataset.sections().get("curate", {}).get("select", {})
    models = pc.struct_field(dataset.current_records(source.index, ["provenance"])["provenance"], "model")
    return Origin(
        name=public(absolute(dataset.url)).rpartition("/")[2],
        version=provenance()["reelpack_version"],
        rules=policy.get("rules", {}),
        where=choice.where,
        captioners=sorted(filter(None, pc.unique(models).to_pylist())),
        caption_note=dataset.caption_note,
    )


class _Latents:
    """Stored latents by clip; of ids the vectors, which other tools can read."""

    def __init__(self, root: str, rows: Mapping[str, Sequence[Mapping[str, Any]]], *, is_ids: bool) -> None:
        self.rows = rows
        self._reader = TarReader(root)
        self._values: Callable[[bytes], bytes] | None = None
        if is_ids:
            from train.data.codebook import as_values, read_codebook

            self._values = partial(as_values, tables=read_codebook(root))

    def payloads(self, clip_id: str) -> dict[str, bytes]:
        """By extension; that of a later window begins with its number."""
        found = {}
        for row in self.rows[clip_id]:
            payload = read_member(self._reader, row)
            extension = f"{row[WINDOW]}.safetensors" if row[WINDOW] else "safetensors"
            found[extension] = payload if self._values is None else self._values(payload)
        return found


def _latents(dataset: Dataset, index: pa.Table, name: str) -> _Latents:
    root, record = fingerprint(dataset.url, "latents", name, "--latents")
    if not is_stored(record):
        raise ValueError(
            f"--latents {name}: {root} holds no latents, only their sizes (encode.store=false); run `reelpack encode "
            f"{dataset.url} --set encode.store=true`, and export those"
        )
    key = ["clip_id", WINDOW]
    rows = read_index(EncodedLayout(root).index, "reelpack encode", key, [*PLACE, WINDOW], [SOURCE])
    of_clip: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in of_current(rows, index).sort_by(WINDOW).to_pylist():
        of_clip[row["clip_id"]].append(row)
    return _Latents(root, of_clip, is_ids="codebook" in record)
