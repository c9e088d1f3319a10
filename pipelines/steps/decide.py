"""Step: stored facts, signals and scores → clips.parquet. Decodes nothing: a pure function of tables and policy."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.columns import FACTS
from curate.dataset.captions import matches
from curate.dataset.dataset import Dataset
from curate.dataset.rows import fraction
from curate.dataset.scans import current_clips
from curate.dataset.schemas import CLIPS, PUBLIC_COLUMNS
from curate.dataset.store import Table, write_parquet
from curate.dataset.table import left_join
from curate.dedup.balance import balance_weights
from curate.scan import ScanConfig
from curate.scores.score import STEP as SCORE_STEP
from curate.scores.score import TEXT_DIGEST
from curate.select import decide as apply_policy
from curate.split import Split, SplitConfig, is_held_out
from pipelines.config import Config
from pipelines.console.progress import console
from pipelines.steps.duplicates import find_duplicates
from pipelines.steps.losses import refuse_losses
from pipelines.steps.own_texts import of_texts_now, own_texts

SCANNED: Mapping[str, pa.DataType] = MappingProxyType(
    {
        **{field.name: field.type for field in CLIPS},
        **dict.fromkeys(("start_s", "end_s", "fps", *FACTS), pa.float64()),
        "video_uri": pa.string(),
    }
)
"""Column → type of the scan's facts on a clip."""

Families = Mapping[str, Mapping[str, pa.DataType]]
"""Score family → its columns."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Stored:
    """What the tables say of the clips, before any policy but that of duplicates.

    Attributes:
        clips: one row per clip of every readable input: facts, signals, scores, the captions' match.
        unscored: clip id → columns that a scorer failed to give.
        groups: clip id → duplicate group.
        clusters: clip id → cluster, of the clips that have embeddings.
    """

    clips: pa.Table
    unscored: dict[str, set[str]]
    groups: dict[str, str]
    clusters: dict[str, int]


def read_stored(dataset: Dataset, config: Config, families: Families, *, keep: bool = False) -> Stored:
    """Read and join the tables.

    Args:
        dataset: that holds them.
        config: names the scan whose clips are meant, and says what duplicates are.
        families: the score families to join.
        keep: write duplicates and clusters to the cache, see `find_duplicates`.
    """
    clips = facts(dataset, config.scan)
    uris = dict(zip(clips["clip_id"].to_pylist(), clips["video_uri"].to_pylist(), strict=True))
    vectors: tuple[Table, str] | None = None
    unscored: dict[str, set[str]] = {}
    for family, columns in families.items():
        table = dataset.scores(family, columns)
        values = [name for name in columns if not pa.types.is_nested(columns[name])]
        scored = table.read(values)
        if TEXT_DIGEST in values:
            column = config.score.reads.get(family.partition("-")[0], "")
            scored = of_texts_now(scored, uris, own_texts(dataset, column))
        clips = left_join(clips, scored, "clip_id")
        for name in set(columns) - set(values):
            vectors = (table, name)
        for clip_id in dataset.failed({family}) - set(scored["clip_id"].to_pylist()):
            unscored.setdefault(clip_id, set()).update(columns)
    captions = dataset.current_records(dataset.cut(config.shards.key), ["findings"])
    clips = left_join(clips, matches(captions), "clip_id")
    groups, clusters = find_duplicates(dataset, clips, vectors, config.dedup, keep=keep)
    return Stored(clips=clips.drop_columns(["frame_hashes"]), unscored=unscored, groups=groups, clusters=clusters)


def decide(
    dataset: Dataset, stored: Stored, config: Config, families: Families, *, drop_failed: bool = False
) -> pa.Table:
    """Apply the policy and publish `clips.parquet`; see `decided`.

    Raises:
        ValueError: clips would leave the index because of failures alone, and not `drop_failed`.
    """
    table = decided(dataset, stored, config, families)
    if not drop_failed:
        refuse_losses(dataset, table, config.scan)
    _say_what_is_not_held_out(table, config.select.split)
    write_parquet(dataset.layout.clips, table)
    return table


def decided(
    dataset: Dataset,
    stored: Stored,
    config: Config,
    families: Families,
    uncut: Collection[str] | None = None,
) -> pa.Table:
    """The rows of `clips.parquet`: every clip with its decision; writes nothing.

    Args:
        dataset: that holds failures, shards and the user's columns.
        stored: what the other tables say.
        config: the policy.
        families: the score families that it may refer to.
        uncut: clips that count as failed because they could not be cut; None: all that could not.
    """
    clips, own = with_sidecar(dataset, stored.clips)
    table = apply_policy(
        clips,
        config.select,
        failed=_failed(dataset, config, families, uncut),
        unscored=stored.unscored,
        groups=stored.groups,
        cut=_cut(dataset),
    )
    ids = table["clip_id"].to_pylist()
    kept = table.filter(pc.equal(table["decision"], "keep"))["clip_id"].to_pylist()
    weights = balance_weights(kept, stored.clusters, config.dedup.balance)
    table = table.append_column("balance_weight", pa.array([weights.get(clip_id) for clip_id in ids], pa.float64()))
    front = [name for name in PUBLIC_COLUMNS if name in table.column_names]
    return table.select([*front, *(name for name in table.column_names if name not in {*front, *own}), *own])


def facts(dataset: Dataset, scan: ScanConfig) -> pa.Table:
    """Every clip of the readable inputs with the scan's facts on it, in order of URI and time."""
    clips = current_clips(dataset, scan)
    start_s, end_s, duration_s = (
        seconds(pts, clips["time_base"])
        for pts in (clips["start_pts"], clips["end_pts"], pc.subtract(clips["end_pts"], clips["start_pts"]))
    )
    is_video = pc.equal(clips["kind"], "video")
    bits = pc.cast(pc.multiply(clips["size_bytes"], 8), pa.float64())
    columns = {
        "start_s": start_s,
        "end_s": end_s,
        "duration_s": pc.if_else(is_video, duration_s, None),
        "short_side_px": pc.cast(pc.min_element_wise(clips["width"], clips["height"]), pa.float64()),
        "bitrate": pc.if_else(pc.greater(clips["duration_s"], 0), pc.divide(bits, clips["duration_s"]), None),
        "fps": pa.array([float(fraction(rate)) for rate in clips["fps"].to_pylist()], pa.float64()),
    }
    clips = clips.drop_columns(["size_bytes", "duration_s", "fps"])
    for name, values in columns.items():
        clips = clips.append_column(name, values)
    return clips.sort_by([("video_uri", "ascending"), ("start_pts", "ascending")])


def seconds(pts: pa.ChunkedArray, time_bases: pa.ChunkedArray) -> pa.Array:
    """Times in seconds, each the float next to the exact fraction, as `Span` gives it."""
    codes = time_bases.combine_chunks().dictionary_encode()
    bases = [Fraction(text) for text in codes.dictionary.to_pylist()] or [Fraction(1)]
    which = codes.indices.to_numpy(zero_copy_only=False)
    numerators = np.array([base.numerator for base in bases], np.int64)[which]
    denominators = np.array([base.denominator for base in bases], np.int64)[which]
    return pa.array(pts.to_numpy() * numerators / denominators)


def _failed(dataset: Dataset, config: Config, families: Families, uncut: Collection[str] | None) -> dict[str, str]:
    """Clip id → the step that failed on it as a whole."""
    if uncut is None:
        key = config.shards.key
        uncut = dataset.failed({key}) - {row["clip_id"] for row in dataset.shards.rows() if row["cut_key"] == key}
    return {**dict.fromkeys(_undecodable(dataset, families), "score"), **dict.fromkeys(uncut, "cut")}


def _cut(dataset: Dataset) -> dict[str, Split]:
    """Clip id → the split of its shard; `train` where shards of both splits hold it."""
    rows = dataset.shards.read(["split"]).select(["clip_id", "split"]).to_pylist()
    return {row["clip_id"]: row["split"] for row in sorted(rows, key=lambda row: row["split"], reverse=True)}


def _say_what_is_not_held_out(clips: pa.Table, config: SplitConfig) -> None:
    if config.hold_out:
        trained = clips.filter(pc.equal(clips["split"], "train"))["video_uri"].to_pylist()
        if num := sum(is_held_out(uri, config) for uri in trained):
            console.print(
                f"select.split.hold_out: {num} clips stay train: they or copies of them are in train shards; "
                "curate into a new directory to hold them out"
            )


def _undecodable(dataset: Dataset, families: Families) -> set[str]:
    """Clips that could not be decoded for the scorers, without those that all of them have scored since."""
    key = "+".join(families)  # that of a family that is alone, too: the step tells a scorer's failure from this one
    failed = {row["subject"] for row in dataset.failures.rows() if (row["step"], row["key"]) == (SCORE_STEP, key)}
    if not failed or not families:
        return set()
    return failed - set.intersection(*(dataset.scores(family, columns).ids() for family, columns in families.items()))


def with_sidecar(dataset: Dataset, clips: pa.Table) -> tuple[pa.Table, list[str]]:
    """The clips with the user's own columns, and the names of those."""
    sidecar = dataset.sidecar()
    if sidecar is None:
        return clips, []
    return left_join(clips, sidecar.rename_columns({"uri": "video_uri"}), "video_uri"), dataset.sidecar_names()
