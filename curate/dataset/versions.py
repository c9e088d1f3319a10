"""Versions of the decision: with which settings `clips.parquet` was decided, and what came of it.

    tables/versions   one row per version: when, by which command, the settings, the counts
    tables/decisions  the clips whose decision changed in a version; a clip's decision in version N is that of its last
                      row of a version up to N

The rows of a version are published before the version itself: what a kill leaves belongs to none. DuckDB compares the
decisions, on disk where they are too many for its memory.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.dataset as ds

from curate.dataset.dataset import Dataset
from curate.storage.owner import here
from curate.storage.place import locate

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

FOUND = "found as it was"
"""Command of the first version of a dataset that an earlier reelpack decided."""
NOT_SETTINGS = ("inputs", "lists", "num_inputs", "reelpack_version", "git_commit", "execute", "media")
"""Entries of a section of config.yaml that decide nothing."""
MEMORY = "1GB"
"""Of DuckDB; more is on disk."""
ROWS = 1_000_000
"""Of a part of tables/decisions."""
DECISIONS = ("keep", "reject", "pending", "failed")


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """A row of tables/versions.

    Attributes:
        number: From 1.
        at: ISO 8601, UTC.
        command: As it was typed, or `FOUND`.
        user: Who typed it, and where.
        reelpack_version: That decided; None: an earlier one.
        settings: Section `curate` of config.yaml, without what decides nothing.
        counts: Decision → clips.
        kept_s: Seconds of the kept clips; images have none.
        digest: Of `clips.parquet`.
    """

    number: int
    at: str
    command: str
    user: str
    reelpack_version: str | None
    settings: Mapping[str, Any]
    counts: Mapping[str, int]
    kept_s: float
    digest: str

    @property
    def num_clips(self) -> int:
        return sum(self.counts.values())

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Version":
        counts = {name: row[f"num_{name}"] for name in DECISIONS}
        plain = {
            name: row[name] for name in ("number", "at", "command", "user", "reelpack_version", "kept_s", "digest")
        }
        return cls(settings=json.loads(row["settings"]), counts=counts, **plain)

    def row(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("settings", "counts")}
        counts = {f"num_{name}": self.counts.get(name, 0) for name in DECISIONS}
        return {**plain, **counts, "settings": json.dumps(self.settings, sort_keys=True)}


def versions(dataset: Dataset) -> list[Version]:
    """All versions, the first one first."""
    return [Version.of(row) for row in dataset.versions.rows()]


def find_version(dataset: Dataset, number: int) -> Version:
    """
    Raises:
        ValueError: there is no such version.
    """
    found = {one.number: one for one in versions(dataset)}
    if number not in found:
        has = f"it has {min(found)} to {max(found)}" if found else "none is recorded; the next `reelpack select` does"
        raise ValueError(f"{dataset.url} has no version {number}; {has}; `reelpack log {dataset.url}` lists them")
    return found[number]


@contextmanager
def recorded(dataset: Dataset) -> Iterator[None]:
    """Record what the block decides as a version, unless it changes neither settings nor decisions.

    A command that was killed in between has recorded nothing: the next one does.
    """
    record_first(dataset)
    yield
    record(dataset, here("").command)


def record_first(dataset: Dataset) -> None:
    """Record a decision that is there and has no version."""
    if not dataset.versions.part_names() and dataset.is_decided():
        record(dataset, FOUND)


def record(dataset: Dataset, command: str) -> None:
    """Record `clips.parquet` with the settings in config.yaml, where they are not those of the last version."""
    known, section = versions(dataset), dataset.sections().get("curate", {})
    last = known[-1] if known else None
    settings = {name: value for name, value in section.items() if name not in NOT_SETTINGS}
    digest = _digest(dataset.layout.clips)
    if last is not None and (last.digest, last.settings) == (digest, settings):
        return
    with _connected() as connection:
        _load_clips(connection, dataset)
        _load_state(connection, dataset, "before", known)
        connection.execute(
            """create temp table changes as
            select coalesce(now.clip_id, before.clip_id) as clip_id, now.decision, now.reasons, now.duration_s
            from now full join before on now.clip_id = before.clip_id
            where now.decision is distinct from before.decision or now.reasons is distinct from before.reasons"""
        )
        counts = dict(connection.execute("select decision, count(*) from now group by decision").fetchall())
        (kept_s,) = connection.execute(
            "select coalesce(sum(duration_s), 0) from now where decision = 'keep'"
        ).fetchone()
        num_changes = connection.execute("select count(*) from changes").fetchone()[0]
        same = last is not None and last.settings == settings
        if same and not num_changes and {name: num for name, num in last.counts.items() if num} == counts:
            return
        # A number that a killed command has begun is not used again.
        begun = [part["number"] for part in dataset.decisions.parts([])]
        number = 1 + max(
            [*(one.number for one in known), *(n for column in begun for n in column.to_pylist())], default=0
        )
        changes = connection.execute(
            f"select clip_id, {number}::bigint as number, decision, reasons, duration_s from changes order by clip_id"
        )
        for batch in changes.to_arrow_reader(ROWS):
            dataset.decisions.publish_table(pa.Table.from_batches([batch]))
    owner = here("")
    dataset.versions.publish(
        [
            Version(
                number=number,
                at=datetime.now(UTC).isoformat(timespec="seconds"),
                command=command,
                user=f"{owner.user}@{owner.host}",
                reelpack_version=None if command == FOUND else _release(),
                settings=settings,
                counts=counts,
                kept_s=kept_s,
                digest=digest,
            ).row()
        ]
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Move:
    """Clips that one version keeps and another does not: `why` the other does not, how many, and their seconds."""

    why: str
    num_clips: int
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """What another version keeps: what came in, what left, by reason; with the ids of the clips where they are wanted."""

    came: tuple[Move, ...]
    left: tuple[Move, ...]
    came_ids: tuple[str, ...] = ()
    left_ids: tuple[str, ...] = ()


def difference(dataset: Dataset, old: int, new: int, *, ids: bool = False) -> Difference:
    """Compare what two versions keep.

    Raises:
        ValueError: there is no such version.
    """
    known = versions(dataset)
    with _connected() as connection:
        for name, number in (("a", old), ("b", new)):
            find_version(dataset, number)
            _load_state(connection, dataset, name, [one for one in known if one.number <= number])
        return Difference(
            came=_moves(connection, "b", "a"),
            left=_moves(connection, "a", "b"),
            came_ids=_moved(connection, "b", "a") if ids else (),
            left_ids=_moved(connection, "a", "b") if ids else (),
        )


def num_unlike(dataset: Dataset, number: int) -> int:
    """How many clips `clips.parquet` decides otherwise than a version did."""
    with _connected() as connection:
        _load_clips(connection, dataset)
        _load_state(connection, dataset, "a", [one for one in versions(dataset) if one.number <= number])
        found = connection.execute(
            """select count(*) from now full join a on now.clip_id = a.clip_id
            where now.decision is distinct from a.decision or now.reasons is distinct from a.reasons"""
        ).fetchone()
    return int(found[0]) if found else 0


KEPT_BY_ONE = (
    "from {one} one left join {other} other on one.clip_id = other.clip_id where one.decision = 'keep' and "
    "other.decision is distinct from 'keep'"
)


def _moves(connection: "DuckDBPyConnection", one: str, other: str) -> tuple[Move, ...]:
    """Clips that `one` keeps and `other` does not, by the first reason of `other`."""
    rows = connection.execute(
        f"""select case when other.decision is null then 'not there'
                when other.decision = 'reject' then split_part(other.reasons, ',', 1) else other.decision end as why,
            count(*) as num, coalesce(sum(one.duration_s), 0)
        {KEPT_BY_ONE.format(one=one, other=other)} group by why order by num desc, why"""
    ).fetchall()
    return tuple(Move(why=why, num_clips=num, seconds=seconds) for why, num, seconds in rows)


def _moved(connection: "DuckDBPyConnection", one: str, other: str) -> tuple[str, ...]:
    text = f"select one.clip_id {KEPT_BY_ONE.format(one=one, other=other)} order by 1"
    return tuple(row[0] for row in connection.execute(text).fetchall())


@contextmanager
def _connected() -> Iterator["DuckDBPyConnection"]:
    import duckdb

    with tempfile.TemporaryDirectory(prefix="reelpack-versions-") as folder:
        rules = {"memory_limit": MEMORY, "temp_directory": folder, "python_enable_replacements": "false"}
        connection = duckdb.connect(config=rules)
        try:
            yield connection
        finally:
            connection.close()


def _load_clips(connection: "DuckDBPyConnection", dataset: Dataset) -> None:
    """Table `now`: the decisions of `clips.parquet`."""
    fs, path = locate(dataset.layout.clips)
    stored = ds.dataset(path, filesystem=fs, format="parquet")
    reader = stored.scanner(["clip_id", "decision", "reasons", "duration_s"]).to_reader()
    connection.register("clips", reader)
    connection.execute(
        "create temp table now as select clip_id, decision, array_to_string(reasons, ',') as reasons, duration_s from clips"
    )
    connection.unregister("clips")


def _load_state(connection: "DuckDBPyConnection", dataset: Dataset, name: str, known: Sequence[Version]) -> None:
    """Table of what the last of these versions decided."""
    schema = dataset.decisions.schema
    batches = (batch for part in dataset.decisions.parts() for batch in part.to_batches())
    connection.register("rows", pa.RecordBatchReader.from_batches(schema, batches))
    numbers = ", ".join(str(one.number) for one in known) or "null"
    connection.execute(
        f"""create temp table {name} as select clip_id, last.* from (
            select clip_id, arg_max({{decision: decision, reasons: reasons, duration_s: duration_s}}, number) as last
            from rows where number in ({numbers}) group by clip_id) where last.decision is not null"""
    )
    connection.unregister("rows")


def _release() -> str | None:
    try:
        return version("reelpack")
    except PackageNotFoundError:
        return None


def _digest(url: str) -> str:
    fs, path = locate(url)
    digest = hashlib.sha256()
    with fs.open(path, "rb") as file:
        for block in iter(lambda: file.read(2**20), b""):
            digest.update(block)
    return digest.hexdigest()[:32]
