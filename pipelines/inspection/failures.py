"""Failures that stand: those of the settings that a dataset has now whose subject has no result since."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.dataset import Dataset
from curate.dataset.layout import Encoded
from curate.dataset.scans import KnownKeys, current_clips
from curate.dataset.sources import SOURCE, of_current
from curate.dataset.table import open_parquet
from curate.schema import RETRYABLE, FailureKind
from pipelines.config import Config
from pipelines.dataset import config_of, step_config

WORTH_RETRYING = RETRYABLE | {FailureKind.MODEL, FailureKind.WORKER_DIED}
"""What may end differently without another file: a path that is back, a machine with more memory."""
ENCODED_BY: Mapping[str, Encoded] = {"encode": "latents", "embed_text": "text"}
LATER_STEPS = ("caption", *ENCODED_BY)
"""Steps that have commands of their own; `reelpack retry` attempts all others again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FailureGroup:
    """Failures of one step and kind: how many inputs or clips, how often the most stubborn of them was attempted, and
    what attempts them again."""

    step: str
    kind: str
    num_failed: int
    max_attempts: int
    retry_command: str

    @property
    def is_worth_retrying(self) -> bool:
        return self.kind in WORTH_RETRYING or self.step in LATER_STEPS


def standing_failures(dataset: Dataset, subjects: Collection[str] | None = None) -> list[dict[str, Any]]:
    """Rows of tables/failures; of these subjects alone.

    Raises:
        ValueError: nothing was curated into the dataset.
    """
    rows = [row for row in dataset.failures.rows() if subjects is None or row["subject"] in subjects]
    if not rows:
        return []
    config = config_of(dataset, or_running=True)
    keys, clips = KnownKeys(config.scan, dataset.videos.read([])), ids_of(current_clips(dataset, config.scan))
    done = _done(dataset, config)

    def stands(row: Mapping[str, Any]) -> bool:
        if row["step"] == "scan":  # it takes a failure out when its file went well
            return bool(row["key"] == keys.of(row["subject"]))
        found = done.get((row["step"], row["key"]))
        return found is not None and row["subject"] in clips and row["subject"] not in found

    return [row for row in rows if stands(row)]


def grouped(rows: Iterable[Mapping[str, Any]]) -> tuple[FailureGroup, ...]:
    """Rows of tables/failures by step and kind, in this order."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["step"], row["kind"]].append(row)
    return tuple(
        FailureGroup(
            step=step,
            kind=kind,
            num_failed=len(group),
            max_attempts=max(row["attempts"] for row in group),
            retry_command=group[0]["retry_command"],
        )
        for (step, kind), group in sorted(groups.items())
    )


def _done(dataset: Dataset, config: Config) -> dict[tuple[str, str], set[str]]:
    """By step and key of the current settings, the clips that have their result."""
    families, cut_key = dataset.families(or_running=True), config.shards.key
    cut = dataset.cut(cut_key)
    scored = {name: dataset.scores(name, columns).ids() for name, columns in families.items()}
    done = {
        ("cut", cut_key): ids_of(cut),
        **{(name, name): ids for name, ids in scored.items()},
    }
    if scored:
        done["score", "+".join(scored)] = set.intersection(*scored.values())
    if captioner := dataset.caption_family:
        done["caption", captioner] = _captioned(dataset, captioner, cut)
    for step, kind in ENCODED_BY.items():
        for fingerprint in dataset.fingerprints(kind):
            done[step, fingerprint] = encoded(dataset, kind, fingerprint, cut)
    return done


def _captioned(dataset: Dataset, family: str, cut: pa.Table) -> set[str]:
    """Clips that have a record of every level by this captioner, none of which it should attempt again."""
    stored = of_current(dataset.captions(family).read(["text", "status", SOURCE]), cut)
    records = stored.filter(pc.equal(stored["variant"], 0))
    is_known = "caption" in dataset.sections()
    levels = step_config(dataset, "caption").caption.prompt_set.levels if is_known else pc.unique(records["level"])
    of_clip = records.group_by("clip_id").aggregate([("level", "count_distinct")])
    whole = of_clip.filter(pc.greater_equal(of_clip["level_count_distinct"], len(levels)))
    return ids_of(whole) - ids_of(dataset.to_retry(stored, cut))


def encoded(dataset: Dataset, kind: Encoded, fingerprint: str, cut: pa.Table) -> set[str]:
    """Clips that have latents (or text embeddings) of a fingerprint.

    Args:
        dataset: that holds them.
        kind: `latents` or `text`.
        fingerprint: names their folder.
        cut: rows of tables/shards, the clips as they are cut now: latents of an earlier cut do not count.
    """
    stored = open_parquet(dataset.layout.encoded(kind, fingerprint).index)
    if stored is None:
        return set()
    rows = stored.to_table([name for name in stored.schema.names if name in ("clip_id", SOURCE)])
    return ids_of(of_current(rows, cut) if kind == "latents" else rows)


def ids_of(table: pa.Table) -> set[str]:
    return set(table["clip_id"].to_pylist())
