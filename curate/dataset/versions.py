"""Versions of the decision: with which settings `clips.parquet` was decided, and what came of it.

    tables/versions   one row per version: when, by which command, the settings, the counts
    tables/decisions  the clips whose decision changed in a version; a clip's decision in version N is that of its last
                      row of a version up to N

The rows of a version are published before the version itself: what a kill leaves belongs to none.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.changes import Changes
from curate.dataset.dataset import Dataset
from curate.dataset.decisions import Comparison, Move, comparison
from curate.dataset.table import open_parquet
from curate.storage.owner import here
from curate.storage.place import locate

FOUND = "not known: recorded later"
"""Command of the first version of a dataset that an earlier reelpack decided."""
NOT_SETTINGS = ("inputs", "lists", "num_inputs", "reelpack_version", "git_commit", "execute", "media")
"""Entries of a section of config.yaml that decide nothing."""
DECISIONS = ("keep", "reject", "pending", "failed")
PLAIN = ("number", "at", "command", "user", "reelpack_version", "kept_s", "digest")
"""Fields of a version that are columns as they are."""


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
        counts = {name: row[f"num_{name}"] for name in DECISIONS if row[f"num_{name}"]}
        return cls(settings=json.loads(row["settings"]), counts=counts, **{name: row[name] for name in PLAIN})

    def row(self) -> dict[str, Any]:
        counts = {f"num_{name}": self.counts.get(name, 0) for name in DECISIONS}
        plain = {name: getattr(self, name) for name in PLAIN}
        return {**plain, **counts, "settings": json.dumps(self.settings)}


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
        has = f"it has {min(found)} to {max(found)}" if found else "none is recorded; `reelpack select` records one"
        raise ValueError(f"{dataset.url} has no version {number}; {has}; `reelpack log {dataset.url}` lists them")
    return found[number]


@contextmanager
def recorded(dataset: Dataset) -> Iterator[Changes]:
    """Record what the block decides as a version, unless it changes neither settings nor decisions. The block has its
    new rows watched: what they change need not be found again.

    A command that was killed in between has recorded nothing: the next one does.
    """
    record_first(dataset)
    known = versions(dataset)
    is_last = bool(known) and dataset.is_decided() and _digest(dataset.layout.clips) == known[-1].digest
    changes = Changes(open_parquet(dataset.layout.clips) if is_last else None)
    yield changes
    record(dataset, here("").command, changes)


def record_first(dataset: Dataset) -> None:
    """Record a decision that is there and has no version."""
    if not dataset.versions.part_names() and dataset.is_decided():
        record(dataset, FOUND)


def record(dataset: Dataset, command: str, changes: Changes | None = None) -> None:
    """Record `clips.parquet` with the settings in config.yaml, where they are not those of the last version.

    Args:
        dataset: that has both.
        command: that decided.
        changes: what it changed in the last version's decisions; None, or where it is not known: they are compared.
    """
    known, section = versions(dataset), dataset.sections().get("curate", {})
    last = known[-1] if known else None
    settings = {name: value for name, value in section.items() if name not in NOT_SETTINGS}
    digest = _digest(dataset.layout.clips)
    if last is not None and (last.digest, last.settings) == (digest, settings):
        return
    with ExitStack() as compared:
        found: Changes | Comparison
        if changes is not None and changes.is_known:
            found = changes
        else:
            found = compared.enter_context(comparison(dataset))
            found.load_state("a", (one.number for one in known))
            found.load_clips("b")
        is_same = last is not None and (last.settings, last.counts) == (settings, found.counts)
        if is_same and not found.num:
            return
        # A number that a killed command has begun is not used again.
        begun = [pc.max(part["number"]).as_py() for part in dataset.decisions.parts(["number"]) if part.num_rows]
        number = 1 + max([*(one.number for one in known), *begun], default=0)
        for rows in found.tables(number):
            dataset.decisions.publish_table(rows)
        counts, kept_s = found.counts, found.kept_s
    owner = here("")
    new = Version(
        number=number,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        user=f"{owner.user}@{owner.host}",
        reelpack_version=None if command == FOUND else _release(),
        settings=settings,
        counts=counts,
        kept_s=kept_s,
        digest=digest,
    )
    dataset.versions.publish([new.row()])


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """What a version keeps that another did not, and the other way round, by reason; and the ids, where asked for."""

    came: tuple[Move, ...]
    left: tuple[Move, ...]
    came_ids: tuple[str, ...] = ()
    left_ids: tuple[str, ...] = ()


def difference(dataset: Dataset, old: int, new: int, *, ids: bool = False) -> Difference:
    """Compare what two versions keep.

    Raises:
        ValueError: there is no such version.
    """
    with comparison(dataset) as sides:
        sides.load_state("a", _until(dataset, old))
        sides.load_state("b", _until(dataset, new))
        return Difference(
            came=sides.moves("b", "a"),
            left=sides.moves("a", "b"),
            came_ids=sides.moved("b", "a") if ids else (),
            left_ids=sides.moved("a", "b") if ids else (),
        )


def decided_in(dataset: Dataset, number: int) -> pa.Table:
    """`clip_id`, `decision`, `reasons` and `duration_s` of a version's clips, by id.

    Raises:
        ValueError: there is no such version.
    """
    with comparison(dataset) as sides:
        sides.load_state("a", _until(dataset, number))
        return sides.state("a")


def num_unlike(dataset: Dataset, number: int) -> int:
    """How many clips `clips.parquet` decides otherwise than a version did."""
    with comparison(dataset) as sides:
        sides.load_state("a", _until(dataset, number))
        sides.load_clips("b")
        return sides.num


def _until(dataset: Dataset, number: int) -> list[int]:
    """Numbers of a version and of those before."""
    find_version(dataset, number)
    return [one.number for one in versions(dataset) if one.number <= number]


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
