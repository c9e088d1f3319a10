"""Step: stored facts, signals and scores → clips.parquet. Decodes nothing: a pure function of tables and policy."""

import json
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

import curate.dataset
import curate.dedup
from curate.columns import FACTS
from curate.dataset import ordered
from curate.dataset.cache import FOUND_IN, KEPT_FROM, code_of, digest_of, open_found, tables_found
from curate.dataset.captions import matches
from curate.dataset.changes import Changes
from curate.dataset.current import CurrentRecords
from curate.dataset.dataset import Dataset
from curate.dataset.ordered import Follower, in_order
from curate.dataset.rows import fraction
from curate.dataset.scans import SCAN, CurrentScans, current_clips
from curate.dataset.schemas import CLIPS, PUBLIC_COLUMNS
from curate.dataset.store import write_tables
from curate.dataset.table import left_join, open_parquet
from curate.dedup.balance import CLUSTER
from curate.policy import FAILED, UNSCORED, Policy, looked_up, reasons_of
from curate.scan import ScanConfig
from curate.scores.score import STEP as SCORE_STEP
from curate.scores.score import TEXT_DIGEST
from curate.select import absolute, funnel
from curate.split import CUT, GROUP, SplitConfig, is_held_out
from pipelines.config import Config
from pipelines.console.progress import console
from pipelines.steps.duplicates import find_duplicates
from pipelines.steps.losses import Losses
from pipelines.steps.own_texts import of_texts_now, own_texts

SCANNED: Mapping[str, pa.DataType] = MappingProxyType(
    {
        **{field.name: field.type for field in CLIPS},
        **dict.fromkeys(("start_s", "end_s", "fps", *FACTS), pa.float64()),
        "video_uri": pa.string(),
    }
)
"""Column → type of the scan's facts on a clip."""

ORDER = ("video_uri", "start_pts", "clip_id")
INTERNAL = (GROUP, CUT, CLUSTER, FAILED, UNSCORED)
"""Columns that no rule can name."""
LZ4 = pa.ipc.IpcWriteOptions(compression="lz4")

Families = Mapping[str, Mapping[str, pa.DataType]]
"""Score family → its columns."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Stored:
    """What the tables say of the clips, before any policy but that of duplicates.

    Attributes:
        clips: one row per clip of every readable input, in order of URI and time: facts, signals, scores, match of the
            caption, `GROUP`, `CLUSTER`, `CUT` and `UNSCORED`.
        folder: of what is too large for memory, as long as this lives; None where it is in memory or in the cache.
    """

    clips: ds.Dataset
    folder: tempfile.TemporaryDirectory[str] | None = None


def read_stored(dataset: Dataset, config: Config, families: Families, *, keep: bool = False) -> Stored:
    """Read and join the tables.

    Args:
        dataset: that holds them.
        config: names the scan whose clips are meant, and says what duplicates are.
        families: the score families to join.
        keep: write duplicates and clusters to the cache, see `find_duplicates`, and the clips where they are too large
            for memory: another policy joins nothing again.
    """
    cache, digest = dataset.layout.cache("clips"), _found_in(dataset, config, families)
    if (kept := open_found(cache, digest)) is not None:
        return Stored(clips=kept)
    groups, clusters = find_duplicates(dataset, config, families, keep=keep)
    joined = joined_tables(dataset, config, families, groups, clusters)
    first = next(joined)
    sorted_ones, held = in_order(chain([first], joined), first.schema, ORDER), list[pa.Table]()
    while sum(part.num_rows for part in held) < KEPT_FROM:
        if (part := next(sorted_ones, None)) is None:
            return Stored(clips=ds.dataset(pa.concat_tables(held)))
        held.append(part)
    if keep:
        write_tables(cache, chain(held, sorted_ones), {FOUND_IN: digest.encode()})
        kept = open_parquet(cache)
        assert kept is not None, "it was published"
        return Stored(clips=kept)
    folder = tempfile.TemporaryDirectory(prefix="reelpack-clips-")
    path = f"{folder.name}/clips.arrow"
    with pa.OSFile(path, "wb") as file, pa.ipc.new_file(file, first.schema, options=LZ4) as writer:
        for part in chain(held, sorted_ones):
            writer.write_table(part, ordered.CHUNK)
    return Stored(clips=ds.dataset(path, format="ipc"), folder=folder)


def _found_in(dataset: Dataset, config: Config, families: Families) -> str:
    """Names all that `Stored` depends on. A part of a table is never written twice: equal names mean equal rows."""
    captions = [dataset.captions(family) for family in dataset.current_captions]
    tables = [dataset.videos, dataset.clips, dataset.shards, dataset.failures, *captions]
    tables += [dataset.scores(family, columns) for family, columns in families.items()]
    sidecar = dataset.sidecar() if any(TEXT_DIGEST in columns for columns in families.values()) else None
    values = (
        "\n".join(name for table in tables for name in (table.url, *table.part_names())),
        "\n".join(sorted(CurrentScans(dataset, config.scan).videos[SCAN].to_pylist())),
        config.model_dump_json(include={"dedup", "score", "shards"}),
        config.shards.key,
        json.dumps(None if sidecar is None else sidecar.to_pylist(), default=str),
        Path(__file__).read_bytes(),
    )
    return digest_of([*code_of(curate.dedup, curate.dataset), *values])


def joined_tables(
    dataset: Dataset, config: Config, families: Families, groups: Iterator[pa.Table], clusters: Iterator[pa.Table]
) -> Iterator[pa.Table]:
    """`Stored.clips` in order of id."""
    scans, cut_key = CurrentScans(dataset, config.scan), config.shards.key
    scores = {family: Scores(dataset, config, family, columns) for family, columns in families.items()}
    shards = Follower(dataset.shards.in_order(["split", "digest"]))
    records = CurrentRecords(dataset.layout, ["findings"])
    found = [Follower(tables) for tables in (groups, clusters)]
    for rows in dataset.clips.in_order([name for name in CLIPS.names if name != "frame_hashes"]):
        last = rows["clip_id"][-1].as_py() if rows.num_rows else None
        clips = with_facts(scans.of(rows))
        lost: dict[str, np.ndarray] = {}
        for family in scores.values():
            clips = family.joined(clips, last, lost)
        cut = shards.until(last)
        clips = left_join(clips, matches(records.of(cut.filter(pc.equal(cut["cut_key"], cut_key)), last)), "clip_id")
        splits = cut.group_by("clip_id").aggregate([("split", "min")])  # `train` where shards of both hold it
        clips = left_join(clips, splits.rename_columns({"split_min": CUT}), "clip_id")
        for table in found:
            clips = left_join(clips, table.until(last), "clip_id")
        yield clips.append_column(UNSCORED, reasons_of(sorted(lost.items()), clips.num_rows)).combine_chunks()


class Scores:
    """The values of a score family, for clips in order of id."""

    def __init__(self, dataset: Dataset, config: Config, family: str, columns: Mapping[str, pa.DataType]) -> None:
        self._columns = columns
        names = [name for name, kind in columns.items() if not pa.types.is_nested(kind)]
        self._rows = Follower(dataset.scores(family, columns).in_order(names))
        self._failed = pa.array(sorted(dataset.failed({family})), pa.string())
        self._texts: Mapping[str, str] | None = None
        if TEXT_DIGEST in names:
            self._texts = own_texts(dataset, config.score.reads.get(family.partition("-")[0], ""))

    def joined(self, clips: pa.Table, last: str | None, lost: dict[str, np.ndarray]) -> pa.Table:
        """The clips, up to the id `last`, with the values. `lost`: column → the rows that the scorer failed on."""
        scored = self._rows.until(last)
        if self._texts is not None:
            uris = dict(zip(clips["clip_id"].to_pylist(), clips["video_uri"].to_pylist(), strict=True))
            scored = of_texts_now(scored, uris, self._texts)
        if len(self._failed):
            is_scored = pc.is_in(clips["clip_id"], scored["clip_id"].combine_chunks())
            is_lost = pc.and_(pc.is_in(clips["clip_id"], self._failed), pc.invert(is_scored))
            for name in self._columns:
                lost[name] = lost.get(name, False) | np.asarray(is_lost)
        return left_join(clips, scored, "clip_id")


def decide(
    dataset: Dataset,
    stored: Stored,
    config: Config,
    families: Families,
    changes: Changes | None = None,
    *,
    drop_failed: bool = False,
) -> Mapping[str, int]:
    """Apply the policy and publish `clips.parquet`; see `decided`. `changes` are those to the last version.

    Returns:
        Its `curate.select.funnel`.

    Raises:
        ValueError: clips would leave the index because of failures alone, and not `drop_failed`.
    """
    losses, counts, num_trained = Losses(dataset, config.scan), Counter[str](), Counter[str]()

    def watched() -> Iterator[pa.Table]:
        for part in decided_tables(dataset, stored, config, families):
            counts.update(funnel(part))
            num_trained.update(_not_held_out(part, config.select.split))
            if not drop_failed:
                losses.watch(part)
            yield part
        if not drop_failed:
            losses.refuse()

    write_tables(dataset.layout.clips, watched() if changes is None else changes.watched(watched()))
    if num := num_trained.total():
        console.print(
            f"select.split.hold_out: {num} clips stay train: they or copies of them are in train shards; "
            "curate into a new directory to hold them out"
        )
    return counts


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
    return pa.concat_tables(decided_tables(dataset, stored, config, families, uncut))


def decided_tables(
    dataset: Dataset, stored: Stored, config: Config, families: Families, uncut: Collection[str] | None = None
) -> Iterator[pa.Table]:
    """`decided`, in tables that fit into memory."""
    failed = _failed(dataset, config, families, uncut)
    sidecar, own = dataset.sidecar(), dataset.sidecar_names()

    def parts(columns: Collection[str] | None = None) -> Iterator[pa.Table]:
        names = stored.clips.schema.names
        for part in tables_found(stored.clips, names if columns is None else [n for n in names if n in columns]):
            part = part.append_column(FAILED, looked_up(part["clip_id"], failed, pa.string()))
            yield with_sidecar(sidecar, part)

    first = next(parts())
    types = dict(zip(first.column_names, first.schema.types, strict=True))
    rules = config.select.rules_for({name: kind for name, kind in types.items() if name not in INTERNAL})
    if relative := [name for name, rule in rules.items() if rule.relative]:
        needed = {"clip_id", "video_uri", "kind", *relative}
        rules = absolute(rules, pa.concat_tables(part.select(["kind", *relative]) for part in parts(needed)))
    policy = Policy(rules, config.select.split, config.dedup.balance)
    for part in parts(policy.columns):
        policy.see(part)
    for part in parts():
        table = policy.decided(part)
        front = [name for name in PUBLIC_COLUMNS if name in table.column_names]
        yield table.select([*front, *(name for name in table.column_names if name not in {*front, *own}), *own])


def facts(dataset: Dataset, scan: ScanConfig) -> pa.Table:
    """Every clip of the readable inputs with the scan's facts on it, in order of URI and time."""
    return with_facts(current_clips(dataset, scan)).sort_by([(name, "ascending") for name in ORDER])


def with_facts(clips: pa.Table) -> pa.Table:
    """Rows of `CurrentScans` with the scan's facts."""
    start_s, end_s, duration_s = (
        seconds(pts, clips["time_base"])
        for pts in (clips["start_pts"], clips["end_pts"], pc.subtract(clips["end_pts"], clips["start_pts"]))
    )
    is_video = pc.equal(clips["kind"], "video")
    bits = pc.cast(pc.multiply(clips["size_bytes"], 8), pa.float64())
    rates = clips["fps"].combine_chunks().dictionary_encode()
    numbers = pa.array([float(fraction(rate)) for rate in rates.dictionary.to_pylist()], pa.float64())
    columns = {
        "start_s": start_s,
        "end_s": end_s,
        "duration_s": pc.if_else(is_video, duration_s, None),
        "short_side_px": pc.cast(pc.min_element_wise(clips["width"], clips["height"]), pa.float64()),
        "bitrate": pc.if_else(pc.greater(clips["duration_s"], 0), pc.divide(bits, clips["duration_s"]), None),
        "fps": numbers.take(rates.indices),
    }
    clips = clips.drop_columns(["size_bytes", "duration_s", "fps"])
    for name, values in columns.items():
        clips = clips.append_column(name, values)
    return clips


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
        uncut = failed = dataset.failed({config.shards.key})
        if failed:
            cut = dataset.cut(config.shards.key)["clip_id"]
            uncut = failed - set(cut.filter(pc.is_in(cut, pa.array(sorted(failed), pa.string()))).to_pylist())
    return {**dict.fromkeys(_undecodable(dataset, families), "score"), **dict.fromkeys(uncut, "cut")}


def _not_held_out(clips: pa.Table, config: SplitConfig) -> Mapping[str, int]:
    """URI → how many clips of a source that the configuration holds out are train."""
    if not config.hold_out:
        return {}
    trained = pc.value_counts(clips["video_uri"].filter(pc.equal(clips["split"], "train"))).to_pylist()
    return {row["values"]: row["counts"] for row in trained if is_held_out(row["values"], config)}


def _undecodable(dataset: Dataset, families: Families) -> set[str]:
    """Clips that could not be decoded for the scorers, without those that all of them have scored since."""
    key = "+".join(families)  # that of a family that is alone, too: the step tells a scorer's failure from this one
    rows = dataset.failures.read([])
    rows = rows.filter(pc.and_(pc.equal(rows["step"], SCORE_STEP), pc.equal(rows["key"], key)))
    failed = set(rows["subject"].to_pylist())
    if not failed or not families:
        return set()
    return failed - set.intersection(*(dataset.scores(family, columns).ids() for family, columns in families.items()))


def with_sidecar(sidecar: pa.Table | None, clips: pa.Table) -> pa.Table:
    """The clips with the user's own columns."""
    return clips if sidecar is None else left_join(clips, sidecar.rename_columns({"uri": "video_uri"}), "video_uri")
