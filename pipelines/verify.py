"""Does a dataset hold together? The driver behind `reelpack verify DATASET`. Reads, never writes."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from caption.captioner import KINDS
from caption.record import media_digest
from curate.media.decode import decode_clip
from curate.media.fetch import local_copy
from curate.media.probe import content_id
from curate.schema import MediaError, clip_id
from curate.shards.tar import TarReader
from curate.shards.verify import verify_index
from pipelines.dataset import Dataset
from pipelines.progress import track
from pipelines.tables import clip_of

SEED = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """What was compared, as sentences, and each disagreement, as a sentence."""

    checks: tuple[str, ...]
    problems: tuple[str, ...]


def verify(url: str, num_sampled: int | None = 32) -> Verified:
    """Check index ↔ tars ↔ tables, captions ↔ clips, latents ↔ index, and ids ↔ content.

    Args:
        url: the dataset directory.
        num_sampled: inputs that are hashed again, and clips that are decoded; None is all.

    Raises:
        ValueError: nothing was curated into `url`.
    """
    dataset = Dataset(url)
    clips = {row["clip_id"]: row for row in dataset.read("clips.parquet").to_pylist()}
    index = dataset.read("shards/index.parquet").to_pylist()
    checks, problems = [], []
    for what, found in (
        (f"{len(index)} index rows and the tars", _shards(dataset, index)),
        (f"{len(index)} index rows and {len(clips)} decisions", _decisions(clips, index)),
        (f"{len(clips)} clip ids and their spans", _clip_ids(dataset)),
        ("captions and their clips", _captions(dataset, index)),
        ("latents, text embeddings and their clips", _encoded(dataset, clips)),
        (f"the bytes of {_of(num_sampled)} inputs", _inputs(dataset, num_sampled)),
        (f"the pictures of {_of(num_sampled)} cut clips", _pictures(dataset, index, num_sampled)),
    ):
        sentences = list(found)
        checks.append(f"{what}: {'agree' if not sentences else f'{len(sentences)} disagree'}")
        problems += sentences
    return Verified(checks=tuple(checks), problems=tuple(problems))


def _shards(dataset: Dataset, index: Sequence[dict[str, Any]]) -> list[str]:
    if not index:
        return []
    return verify_index(dataset.shards_url, index, {row["clip_id"] for row in dataset.shards.rows()})


def _decisions(clips: dict[str, dict[str, Any]], index: Sequence[dict[str, Any]]) -> Iterator[str]:
    for row in index:
        clip = clips.get(row["clip_id"])
        if clip is None:
            yield f"{row['clip_id']}: in the index, but in no row of clips.parquet"
        elif clip["decision"] != "keep" or clip["split"] != row["split"]:
            yield (
                f"{row['clip_id']}: in the index as {row['split']}, clips.parquet says {clip['decision']}, "
                f"{clip['split']}; `reelpack select` writes both anew"
            )


def _clip_ids(dataset: Dataset) -> Iterator[str]:
    for row in dataset.clips.rows():
        expected = clip_id(row["video_id"], clip_of(row, "").span)
        if row["clip_id"] != expected:
            yield f"{row['clip_id']}: video {row['video_id']} and its span give the id {expected}"


def _captions(dataset: Dataset, index: Sequence[dict[str, Any]]) -> Iterator[str]:
    family = dataset.sections().get("caption_family")
    if family is None:
        return
    records = {(row["clip_id"], row["kind"]): row for row in dataset.captions(family).rows()}
    reader = TarReader(dataset.shards_url)
    for row in index:
        digests = {records[key]["media_digest"] for kind in KINDS if (key := (row["clip_id"], kind)) in records}
        if digests - {None}:  # None: written before digests were
            try:
                data = reader.read(row["shard"], row["offset"], row["size"])
            except (OSError, ValueError):
                continue  # the tars' own check says what is wrong
            if digests != {media_digest(data)}:
                yield f"{row['clip_id']}: its captions in {family} were written for other bytes than its shard holds"
        for kind in KINDS:
            record = records.get((row["clip_id"], kind))
            if row[f"caption_{kind}"] not in (None, record["text"] if record else None):
                yield f"{row['clip_id']}: its {kind} caption in the index is not that of its record in {family}"
            if record and any(frame >= row["num_frames"] for frame in record["frame_indices"]):
                yield (
                    f"{row['clip_id']}: its {kind} caption was written for frames {record['frame_indices']}, the clip "
                    f"has {row['num_frames']}"
                )


def _encoded(dataset: Dataset, clips: dict[str, dict[str, Any]]) -> Iterator[str]:
    for kind in ("latents", "text"):
        fs, path = url_to_fs(f"{dataset.url}/{kind}")
        for folder in sorted(fs.ls(path, detail=False)) if fs.isdir(path) else []:
            if not fs.exists(f"{folder}/index.parquet"):
                continue
            rows = pq.read_table(f"{folder}/index.parquet", filesystem=fs).to_pylist()
            name = folder.rstrip("/").rpartition("/")[2]
            located = [{**row, "ext": "safetensors"} for row in rows]
            root = f"{dataset.url}/{kind}/{name}"
            yield from (f"{kind}/{name}/{sentence}" for sentence in verify_index(root, located, clips))
            unknown = sorted({row["clip_id"] for row in rows} - clips.keys())
            yield from (f"{kind}/{name}: {clip} is in no row of clips.parquet" for clip in unknown)


def _inputs(dataset: Dataset, num_sampled: int | None) -> Iterator[str]:
    rows = [row for row in dataset.videos.rows() if row["outcome"] == "ok"]
    for row in track(chosen(rows, num_sampled), len(chosen(rows, num_sampled)), "inputs"):
        try:
            found = content_id(local_copy(row["uri"]))
        except MediaError as error:
            yield f"{row['uri']}: {error.detail}"
            continue
        if found != row["video_id"]:
            yield f"{row['uri']}: its bytes are {found}, the tables know them as {row['video_id']}: the file changed"


def _pictures(dataset: Dataset, index: Sequence[dict[str, Any]], num_sampled: int | None) -> Iterator[str]:
    reader = TarReader(dataset.shards_url)
    for row in track(chosen(index, num_sampled), len(chosen(index, num_sampled)), "clips"):
        try:
            clip = decode_clip(reader.read(row["shard"], row["offset"], row["size"]))
        except (MediaError, OSError, ValueError) as error:
            yield f"{row['clip_id']} in {row['shard']}: cannot be decoded ({error})"
            continue
        found, expected = clip.rgb.shape[:3], (row["num_frames"], row["height"], row["width"])
        if found != expected:
            where = f"{row['clip_id']} in {row['shard']}"
            yield f"{where}: frames, height and width are {found}, the index says {expected}"


def chosen(rows: Sequence[dict[str, Any]], count: int | None) -> list[dict[str, Any]]:
    """All rows, or a fixed sample of them."""
    return list(rows) if count is None or count >= len(rows) else random.Random(SEED).sample(list(rows), count)


def _of(count: int | None) -> str:
    return "all" if count is None else f"up to {count}"
