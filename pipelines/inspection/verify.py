"""Does a dataset hold together? The driver behind `reelpack verify DATASET`. Reads, never writes."""

import random
import shlex
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import safetensors
import safetensors.numpy

from curate.dataset.dataset import Dataset
from curate.dataset.forgotten import Tombstones
from curate.dataset.layout import CLIPS_FILE, ENCODED, INDEX_FILE
from curate.dataset.rows import clip_of
from curate.dataset.scans import current_videos
from curate.dataset.sources import SOURCE
from curate.media.decode import clip_frames, clip_times
from curate.media.fetch import DEFAULT, StagingConfig, local_copy
from curate.media.probe import content_id
from curate.schema import FailureKind, MediaError, clip_id
from curate.shards.tar import TarReader, payload_digest, read_member
from curate.shards.verify import verify_index
from pipelines.config import Config
from pipelines.console.progress import track
from pipelines.dataset import config_of, curate_command
from pipelines.inspection.status import decided_now
from pipelines.takedown.remove import left_over
from train.data.fingerprint import is_outdated, read_record

SEED = 0
UNREACHABLE = (FailureKind.MISSING, FailureKind.PERMISSION, FailureKind.IO)


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """What was compared, how many of it, and each disagreement as a sentence. `num_skipped` could not be looked at."""

    what: str
    num_checked: int
    problems: tuple[str, ...]
    num_skipped: int = 0


class Verifier:
    """The checks of one dataset; each reads what it compares, and no more.

    Args:
        url: the dataset directory.
        num_sampled: inputs, clips and latents whose bytes are read; None is all.
        staging: where remote inputs are copied to; the dataset has no say in it.

    Raises:
        ValueError: nothing was curated into `url`, or a run has not come to its end.
    """

    def __init__(self, url: str, num_sampled: int | None, staging: StagingConfig = DEFAULT) -> None:
        self.dataset = Dataset(url)
        if self.dataset.is_running:
            raise ValueError(
                f"{url}: a run is under way, or was stopped, and its tables are not complete; let it come to its end: "
                f"{curate_command(self.dataset)}"
            )
        self.config: Config = config_of(self.dataset)
        self.tombstones = self.dataset.forgotten.rows()
        self.num_sampled = num_sampled
        self.staging = staging
        self.clips: pa.Table = self.dataset.read_clips()
        self.index: list[dict[str, Any]] = self.dataset.read_index().to_pylist()
        self.written = self.dataset.shards.rows()

    def shards(self) -> Check:
        """Every index row points at its member of a tar, and every member is known; headers only."""
        known = {row["clip_id"] for row in self.written} | {row["clip_id"] for row in self.dataset.shard_plans.rows()}
        problems = verify_index(self.dataset.layout.shards, self.index, known) if self.index else []
        return Check(what="rows of the index and their members of the tars", num_checked=len(self.index),
                     problems=tuple(problems))  # fmt: skip

    def decisions(self) -> Check:
        """`clips.parquet` is what tables and policy give."""
        now = decided_now(self.dataset)
        problems = _differences(CLIPS_FILE, self.clips.to_pylist(), now.to_pylist())
        return Check(what="rows of clips.parquet and the tables", num_checked=now.num_rows, problems=tuple(problems))

    def indexed(self) -> Check:
        """`shards/index.parquet` is what `clips.parquet`, shards and captions give."""
        now = self.dataset.index(self.clips, self.config.shards.key).to_pylist()
        problems = _differences(INDEX_FILE, self.index, now)
        return Check(what="rows of the index and the tables", num_checked=len(now), problems=tuple(problems))

    def forgotten(self) -> Check:
        """Of videos that were taken down, nothing is left in tables and tars."""
        stones, again = Tombstones.of(self.tombstones), shlex.join(["reelpack", "forget", self.dataset.url])
        problems = [
            f"{row['uri']}: its take-down was stopped; `{again}` completes it"
            for row in self.tombstones
            if not row["is_done"]
        ]
        if not problems and stones.uris:
            found = sorted(left_over(self.dataset, stones.clip_ids, stones.uris))
            problems = [f"{place}: has some of what was forgotten; `{again}` removes it" for place in found]
        return Check(what="videos that were forgotten and all else", num_checked=len(stones.uris),
                     problems=tuple(problems))  # fmt: skip

    def clip_ids(self) -> Check:
        rows = self.dataset.clips.rows()
        expected = [clip_id(row["video_id"], clip_of(row, "").span) for row in rows]
        problems = tuple(
            f"{row['clip_id']}: video {row['video_id']} and its span give the id {name}"
            for row, name in zip(rows, expected, strict=True)
            if row["clip_id"] != name
        )
        return Check(what="clip ids and what they are made of", num_checked=len(rows), problems=problems)

    def captions(self) -> Check:
        """Every caption was written for the bytes of the clip that it is joined to."""
        records = [row for family in self.dataset.current_captions for row in self.dataset.captions(family).rows()]
        clips_of: dict[str | None, set[str]] = defaultdict(set)
        num_frames: dict[str, int] = {}
        for row in self.written:
            clips_of[row["digest"]].add(row["clip_id"])
            num_frames[row["clip_id"]] = max(row["num_frames"], num_frames.get(row["clip_id"], 0))
        now = {row["clip_id"]: row.get("digest") for row in self.index}
        problems = tuple(_misplaced(records, clips_of, num_frames, now))
        return Check(what="captions and their clips", num_checked=len(records), problems=problems)

    def encoded(self) -> Check:
        """Latents and text embeddings: headers of all, the numbers of a sample."""
        clips, problems, num_checked = set(self.clips["clip_id"].to_pylist()), [], 0
        now = {row["clip_id"]: row.get("digest") for row in self.index}
        for kind in ENCODED:
            for fingerprint in self.dataset.fingerprints(kind):
                index = self.dataset.encoded_index(kind, fingerprint)
                if index is None:
                    continue  # an `encode` that was stopped before its first tar
                folder = self.dataset.layout.encoded(kind, fingerprint)
                root, rows = folder.url, [{**row, "ext": "safetensors"} for row in index.to_pylist()]
                stored = [row for row in rows if row["shard"]]
                found = verify_index(root, stored, clips)
                record = read_record(folder) or {}
                if "codebook" in record:
                    found += _wrong_codebook(root)
                if kind == "latents" and is_outdated(record):
                    found.append("an earlier reelpack wrote them, they may be scrambled; encode again and remove them")
                elif kind == "latents":
                    found += [
                        f"{row['clip_id']}: its latents are of an earlier cut; `reelpack encode` writes them again"
                        for row in rows
                        if (made_of := row.get(SOURCE)) and (now.get(row["clip_id"]) or made_of) != made_of
                    ]
                unknown = sorted({row["clip_id"] for row in rows} - clips)
                found += [f"{name}: is no clip of clips.parquet" for name in unknown]
                found += _unreadable(TarReader(root), chosen(stored, self.num_sampled))
                problems += [f"{kind}/{fingerprint}: {sentence}" for sentence in found]
                num_checked += len(rows)
        return Check(
            what="latents, text embeddings and their clips", num_checked=num_checked, problems=tuple(problems)
        )

    def inputs(self) -> Check:
        """The inputs that can be reached still have the bytes that their ids were made of."""
        rows = current_videos(self.dataset, self.config.scan, ["outcome", "video_id"]).to_pylist()
        rows = [row for row in rows if row["outcome"] == "ok"]
        rows = chosen(rows, self.num_sampled)
        problems, num_skipped = [], 0
        for row in track(rows, len(rows), "inputs"):
            try:
                with local_copy(row["uri"], self.staging) as path:
                    found = content_id(path)
            except MediaError as error:
                if error.kind in UNREACHABLE:
                    num_skipped += 1
                    continue
                found = f"unreadable ({error.detail})"
            if found != row["video_id"]:
                problems.append(f"{row['uri']}: its bytes are {found}, the tables know {row['video_id']}: it changed")
        return Check(what="inputs and their ids", num_checked=len(rows) - num_skipped, problems=tuple(problems),
                     num_skipped=num_skipped)  # fmt: skip

    def frames(self) -> Check:
        """Clips in the shards have the bytes that were written, and decode to what the index says."""
        reader, rows = TarReader(self.dataset.layout.shards), chosen(self.index, self.num_sampled)
        key = self.config.shards.key
        digests = {row["clip_id"]: row["digest"] for row in self.written if row["cut_key"] == key}
        found = ((row, damage(reader, row, digests.get(row["clip_id"]))) for row in track(rows, len(rows), "clips"))
        problems = tuple(f"{row['clip_id']} in {row['shard']}: {damage}" for row, damage in found if damage)
        return Check(what="clips in the shards, bytes and frames", num_checked=len(rows), problems=problems)


def verify(url: str, num_sampled: int | None = 32, staging: StagingConfig = DEFAULT) -> Iterator[Check]:
    """Check index ↔ tars ↔ tables, captions ↔ clips, latents ↔ clips, and ids ↔ content; one check after the other.

    Args:
        url: the dataset directory.
        num_sampled: inputs, clips and latents whose bytes are read; None is all.
        staging: where remote inputs are copied to.

    Raises:
        ValueError: nothing was curated into `url`, or a run has not come to its end.
    """
    on = Verifier(url, num_sampled, staging)
    checks: Sequence[Callable[[], Check]] = (
        on.forgotten, on.shards, on.decisions, on.indexed, on.clip_ids, on.captions, on.encoded, on.inputs, on.frames
    )  # fmt: skip
    return (check() for check in checks)


def chosen(rows: Sequence[dict[str, Any]], count: int | None) -> list[dict[str, Any]]:
    """All rows, or a fixed sample of them."""
    return list(rows) if count is None or count >= len(rows) else random.Random(SEED).sample(list(rows), count)


def _differences(
    name: str, stored: Sequence[Mapping[str, Any]], expected: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """Rows by `clip_id` that a derived file should have and has not, has in another way, or should not have."""
    have, want = {row["clip_id"]: row for row in stored}, {row["clip_id"]: row for row in expected}
    remedy = "`reelpack select` writes it again"
    for key in sorted(have.keys() | want.keys()):
        if key not in have:
            yield f"{key}: is missing in {name}; {remedy}"
        elif key not in want:
            yield f"{key}: is in {name}, but not in the tables; {remedy}"
        elif columns := [column for column in want[key] if have[key].get(column) != want[key][column]]:
            pairs = (f"{column} is {have[key].get(column)!r}, expected {want[key][column]!r}" for column in columns)
            yield f"{key}: in {name} {'; '.join(pairs)}; {remedy}"


def _misplaced(
    records: Sequence[Mapping[str, Any]],
    clips_of: Mapping[str | None, set[str]],
    num_frames: Mapping[str, int],
    now: Mapping[str, str | None],
) -> Iterator[str]:
    """Caption records that were written for something else than their clip.

    Args:
        records: rows of tables/captions.
        clips_of: digest of a clip's file → the clips that were ever cut to it; None where there is no digest.
        num_frames: clip id → frames of its longest cut.
        now: clip id → digest of the clip's file in the index.
    """
    undigested = clips_of.get(None, set())
    for record in records:
        name, digest = record["clip_id"], record["media_digest"]
        owners = clips_of.get(digest, set())
        if name not in num_frames:
            yield f"{name}: has a {record['level']} caption, but was never cut"
        elif digest and name not in owners | undigested:
            of = ", ".join(sorted(owners)) or "bytes that no table knows"
            yield f"{name}: its {record['level']} caption was written for {of}; caption the clips again"
        elif digest and (now.get(name) or digest) != digest:
            yield f"{name}: its {record['level']} caption is of an earlier cut; `reelpack caption` writes it again"
        elif any(not 0 <= frame < num_frames[name] for frame in record["frame_indices"]):
            frames = f"frames {record['frame_indices']}, the clip has {num_frames[name]}"
            yield f"{name}: its {record['level']} caption was written for {frames}"


def _wrong_codebook(folder: str) -> list[str]:
    from train.data.codebook import read_codebook

    try:
        read_codebook(folder)
    except ValueError as error:
        return [str(error)]
    return []


def _unreadable(reader: TarReader, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Latents or text embeddings that are no finite numbers of the shape in their index."""
    problems = []
    for row in rows:
        try:
            arrays = safetensors.numpy.load(read_member(reader, row))
        except (OSError, ValueError, safetensors.SafetensorError) as error:
            problems.append(f"{row['clip_id']} in {row['shard']}: cannot be read ({error})")
            continue
        if not all(np.isfinite(array.astype(np.float32)).all() for array in arrays.values()):
            problems.append(f"{row['clip_id']} in {row['shard']}: holds numbers that are not finite")
        if "latent_c" in row:
            is_ids = "ids" in arrays
            expected = tuple(row[f"latent_{axis}"] for axis in ("thw" if is_ids else "cthw"))
            if (shape := arrays["ids" if is_ids else "latent"].shape) != expected:
                problems.append(f"{row['clip_id']} in {row['shard']}: its shape is {shape}, the index says {expected}")
    return problems


def damage(reader: TarReader, row: Mapping[str, Any], digest: str | None) -> str | None:
    """What is wrong with a clip in its shard; None if nothing is."""
    try:
        data = read_member(reader, {**row, "digest": None})
        if digest is not None and payload_digest(data) != digest:
            return "its bytes are not those that were written"
        times = clip_times(data)
        num_frames, size = 0, (0, 0)
        for rgb in clip_frames(data, times, times.at(None)):
            num_frames, size = num_frames + 1, rgb.shape[:2]
    except (MediaError, OSError, ValueError) as error:
        return f"cannot be decoded ({error})"
    found, expected = (num_frames, *size), (row["num_frames"], row["height"], row["width"])
    if found != expected:
        return f"frames, height and width are {found}, the index says {expected}"
    return None
