"""How far a dataset is, from its tables alone: reads, never writes, and so works while a job runs."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from curate.select import funnel
from pipelines.dataset import Dataset
from pipelines.steps.decide import decided, read_stored


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """Counts of one dataset under the settings of its last or its running `curate`.

    Attributes:
        is_running: A run has begun and not come to its end: it works now, or was killed.
        num_inputs: Files that the run was given; None where no run is under way (then all that are known count).
        inputs: `ok` and each kind of failure → files.
        scored: Score family → clips that have its values.
        funnel: As `curate.select.funnel`: clips, decisions, first reasons.
        num_cut: Kept clips that lie in a shard.
        captioned: Captioner → clips with a usable caption.
        encoded: Fingerprint of latents → clips.
        failures: `(step, kind, retryable)` → subjects that failed and have no result since.
        next_command: What goes on from here.
    """

    is_running: bool
    num_inputs: int | None
    inputs: Mapping[str, int]
    scored: Mapping[str, int]
    funnel: Mapping[str, int]
    num_cut: int
    captioned: Mapping[str, int]
    encoded: Mapping[str, int]
    failures: Mapping[tuple[str, str, bool], int]
    next_command: str


def status(url: str) -> Status:
    """Read the tables and decide in memory.

    Raises:
        ValueError: nothing was curated into `url`.
    """
    dataset = Dataset(url)
    made_with = dataset.made_with(or_running=True)
    is_running = "running" in dataset.sections()
    config, families = dataset.config(or_running=True), dataset.families(or_running=True)
    videos = [row for row in dataset.videos.rows() if row["scan_key"] == config.scan.key]
    families = {family: columns for family, columns in families.items() if columns}
    stored = read_stored(dataset, config, families)
    for name in config.select.rules():  # a score that no clip has yet leaves its clips pending
        if name not in stored.clips.column_names:
            nulls = pa.nulls(stored.clips.num_rows, pa.float64())
            stored = replace(stored, clips=stored.clips.append_column(name, nulls))
    table = decided(dataset, stored, config, families)
    kept = {row["clip_id"] for row in table.select(["clip_id", "decision"]).to_pylist() if row["decision"] == "keep"}
    cut = {row["clip_id"] for row in dataset.shards.rows() if row["cut_key"] == config.shards.key}
    ids = set(table["clip_id"].to_pylist())
    captioned = _captioned(dataset)
    encoded = _encoded(dataset)
    return Status(
        is_running=is_running,
        num_inputs=made_with.get("num_inputs"),
        inputs=Counter(row["failure"] or row["outcome"] for row in videos),
        scored={
            family: len(ids & set(dataset.scores(family, families.get(family, {})).read()["clip_id"].to_pylist()))
            for family in made_with["families"]
        },
        funnel=funnel(table),
        num_cut=len(kept & cut),
        captioned=captioned,
        encoded=encoded,
        failures=Counter((row["step"], row["kind"], row["retryable"]) for row in standing_failures(dataset)),
        next_command=_next(dataset.url, is_running, made_with, len(kept - cut), captioned, encoded),
    )


def standing_failures(dataset: Dataset) -> list[dict[str, Any]]:
    """Rows of tables/failures whose subject has no result since, in any settings."""
    videos = dataset.videos.rows()
    done: dict[str, set[str]] = {
        "scan": {row["uri"] for row in videos if row["outcome"] == "ok"},
        "cut": {row["clip_id"] for row in dataset.shards.rows()},
    }
    standing = []
    for row in dataset.failures.rows():
        if row["step"] not in done:
            done[row["step"]] = _scored(dataset, row["step"])
        if row["subject"] not in done[row["step"]]:
            standing.append(row)
    return standing


def _scored(dataset: Dataset, step: str) -> set[str]:
    """Clips that have values of the family that a failed step is named after."""
    fs, path = url_to_fs(f"{dataset.url}/tables/scores/{step}")
    if not fs.isdir(path):
        return set()
    return set(dataset.scores(step, {}).read()["clip_id"].to_pylist())


def _captioned(dataset: Dataset) -> dict[str, int]:
    """Captioner and prompt → clips with at least one usable caption."""
    counts = {}
    for family in _folders(f"{dataset.url}/tables/captions"):
        rows = dataset.captions(family).rows()
        counts[family] = len({row["clip_id"] for row in rows if row["status"] in ("ok", "truncated")})
    return counts


def _encoded(dataset: Dataset) -> dict[str, int]:
    counts = {}
    for fingerprint in _folders(f"{dataset.url}/latents"):
        fs, path = url_to_fs(f"{dataset.url}/latents/{fingerprint}/index.parquet")
        if fs.exists(path):
            index: pa.Table = pq.read_table(path, filesystem=fs, columns=["clip_id"])
            counts[fingerprint] = len(set(index["clip_id"].to_pylist()))
    return counts


def _folders(url: str) -> list[str]:
    fs, path = url_to_fs(url)
    return (
        sorted(entry.rstrip("/").rpartition("/")[2] for entry in fs.ls(path, detail=False)) if fs.isdir(path) else []
    )


def _next(
    url: str,
    is_running: bool,
    made_with: Mapping[str, Any],
    num_uncut: int,
    captioned: Mapping[str, int],
    encoded: Mapping[str, int],
) -> str:
    curate = f"reelpack curate {' '.join(made_with['inputs'])} --out {url}"
    if is_running:
        return f"{curate}    (if it does not run any more: the same command goes on from here)"
    if num_uncut:
        return f"{curate}    ({num_uncut} kept clips are in no shard yet)"
    if not captioned:
        return f"reelpack caption {url}"
    return f"reelpack encode {url}" if not encoded else f"reelpack train {url} --out RUN"
