"""How far a dataset is, from its tables alone: reads, never writes, and so works while a job runs."""

import shlex
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from caption.backends.embedded import OTHER_MODEL
from curate.columns import SCORE_COLUMNS
from curate.dataset.captions import TEXT_LEVELS, TO_RETRY, usable
from curate.dataset.dataset import Dataset
from curate.dataset.scans import current_videos
from curate.dataset.sources import DIGEST, SOURCE, of_current
from curate.rules import Rule
from curate.select import absolute, funnel
from curate.storage.lease import owners
from curate.storage.place import locate
from pipelines.dataset import config_of, curate_command, step_command
from pipelines.inspection.failures import FailureGroup, encoded, grouped, ids_of, standing_failures
from pipelines.steps.caption import retry_command
from pipelines.steps.decide import decided, read_stored
from pipelines.steps.encode import text_families
from train.data.fingerprint import is_outdated, read_record
from train.data.uncaptioned import why_uncaptioned


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """Counts of one dataset under the settings of its last or its running `curate`.

    Attributes:
        is_running: A run has begun and not come to its end: it works now, or was killed.
        idle_s: Seconds since a table last grew; None where none has anything yet.
        num_inputs: Files that the run was given; None where no run is under way (then all that are known count).
        inputs: `ok` (scanned) and each kind of failure → files.
        num_forgotten: Files that were taken down, and are no inputs any more; `num_inputs` counts those it was given.
        scored: Score family → clips that have its values.
        relative: Column → what its relative bounds come to: `≥ 0.0213 (min_percentile 10)`.
        funnel: As `curate.select.funnel`: clips, decisions, first reasons.
        num_cut: Kept clips that are in a shard.
        captioned: Captioner and prompts → clips with a usable caption.
        captions: Captioner and prompts → captions by how they ended, of the clips as they are cut now.
        used: Of these families, those whose texts count; the others are of other settings.
        caption_note: What a reader of the current captioner's texts must know; None: nothing.
        encoded: Fingerprint of latents → clips.
        failures: What failed and has no result since.
        writers: What writes into the dataset now, by its leases.
        next_command: The next step, and `why`.
    """

    is_running: bool
    idle_s: float | None
    num_inputs: int | None
    inputs: Mapping[str, int]
    num_forgotten: int
    scored: Mapping[str, int]
    relative: Mapping[str, str]
    funnel: Mapping[str, int]
    num_cut: int
    captioned: Mapping[str, int]
    captions: Mapping[str, Mapping[str, int]]
    used: tuple[str, ...]
    caption_note: str | None
    encoded: Mapping[str, int]
    failures: tuple[FailureGroup, ...]
    writers: tuple[str, ...]
    next_command: str
    why: str


def status(url: str) -> Status:
    """Read the tables; where a run is under way, decide in memory.

    Raises:
        ValueError: nothing was curated into `url`.
    """
    dataset = Dataset(url)
    made_with, config = dataset.made_with(or_running=True), config_of(dataset, or_running=True)
    is_running = dataset.is_running
    # Files before clips, which are published before their file: a scanned file has its clips here.
    videos = current_videos(dataset, config.scan, ["outcome", "failure"]).to_pylist()
    relative = [name for name, rule in config.select.rules.items() if rule.relative]
    clips = clips_now(dataset, ["clip_id", "kind", "decision", "reasons", *relative])
    ids = ids_of(clips)
    kept = ids_of(clips.filter(pc.equal(clips["decision"], "keep")))
    now = dataset.cut(config.shards.key, [DIGEST])
    cut = kept & ids_of(now)
    records = {
        family: of_current(dataset.captions(family).read(["status", SOURCE]), now)
        for family in dataset.caption_families()
    }
    captioned = {family: _usable(of_family) for family, of_family in records.items()}
    latents = {
        fingerprint: encoded(dataset, "latents", fingerprint, now)
        for fingerprint in dataset.fingerprints("latents")
        if not is_outdated(read_record(dataset.layout.encoded("latents", fingerprint)) or {})
    }
    families = dataset.families(or_running=True)
    next_command, why = _next(dataset, is_running, kept, cut, now, list(latents.values()))
    return Status(
        is_running=is_running,
        idle_s=_idle_s(dataset),
        num_inputs=made_with.get("num_inputs"),
        inputs=dict(Counter(row["failure"] or row["outcome"] for row in videos)),
        num_forgotten=len(dataset.tombstones().uris),
        scored={name: len(ids & dataset.scores(name, columns).ids()) for name, columns in families.items()},
        relative=_relative(config.select.rules, clips),
        funnel=funnel(clips),
        num_cut=len(cut),
        captioned={family: len(found & cut) for family, found in captioned.items()},
        captions={family: Counter(of_family["status"].to_pylist()) for family, of_family in records.items()},
        used=tuple(dataset.current_captions),
        caption_note=dataset.caption_note,
        encoded={fingerprint: len(found & cut) for fingerprint, found in latents.items()},
        failures=grouped(standing_failures(dataset)),
        writers=tuple(map(str, owners(dataset.url))),
        next_command=next_command,
        why=why,
    )


def clips_now(dataset: Dataset, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of `clips.parquet`, or what they would be now where a run is under way; `columns`: these at least.

    Raises:
        ValueError: nothing was curated into the dataset.
    """
    return decided_now(dataset) if dataset.is_running else dataset.read_clips(columns)


def decided_now(dataset: Dataset) -> pa.Table:
    """What `clips.parquet` would hold, were the run over now; writes nothing.

    Raises:
        ValueError: nothing was curated into the dataset.
    """
    config, families = config_of(dataset, or_running=True), dataset.families(or_running=True)
    # A score that no clip has yet leaves its clips pending.
    scored = {name for columns in families.values() for name in columns}
    awaited = {name: SCORE_COLUMNS[name].type for name in config.select.rules if name in SCORE_COLUMNS.keys() - scored}
    stored = read_stored(dataset, config, {**families, **({"awaited": awaited} if awaited else {})})
    return decided(dataset, stored, config, families)


def _relative(rules: Mapping[str, Rule], clips: pa.Table) -> dict[str, str]:
    given = {name: rule for name, rule in rules.items() if rule.relative}
    return {name: rule.said(given[name].relative) for name, rule in absolute(given, clips).items()}


def _usable(records: pa.Table) -> set[str]:
    """Clips with at least one caption whose text is used."""
    return ids_of(usable(records))


def _idle_s(dataset: Dataset) -> float | None:
    fs, path = locate(dataset.layout.tables)
    found = fs.find(path, detail=True).values() if fs.isdir(path) else ()
    times = [info[key] for info in found for key in ("mtime", "LastModified", "updated") if info.get(key) is not None]
    if not times:
        return None
    return max(0.0, time.time() - max(at.timestamp() if isinstance(at, datetime) else float(at) for at in times))


def _next(
    dataset: Dataset, is_running: bool, kept: set[str], cut: set[str], now: pa.Table, encoded: list[set[str]]
) -> tuple[str, str]:
    """The command of the next step, and the reason."""
    url = shlex.quote(dataset.url)
    if not all(row["is_done"] for row in dataset.forgotten.rows()):
        return f"reelpack forget {url}", "a take-down was stopped: files still hold some of the videos"
    if is_running:
        return curate_command(dataset), "if nothing works on it any more: it resumes from what is published"
    if kept - cut:
        return curate_command(dataset), f"{len(kept - cut)} kept clips are in no shard yet"
    if not kept:
        return f"reelpack report {url}", "no clip is kept: its page shows what the thresholds reject"
    texts, missing = dataset.texts(now), min((len(cut - found) for found in encoded), default=0)
    captioned = cut & ids_of(texts.filter(pc.is_in(texts["level"], pa.array(TEXT_LEVELS))))
    captioner = dataset.caption_family
    records = of_current(dataset.captions(captioner or "none").read(["status", SOURCE]), now)
    has_own_texts = captioner is None and bool(cut) and cut <= captioned
    is_without_model = has_own_texts or dataset.sections().get("caption", {}).get("backend", {}) is None
    if encoded and not missing and not captioned and not records.num_rows:
        why = why_uncaptioned(dataset.url, cut)
        return f"reelpack train {url} --out RUN", f"no text is embedded: the null caption is trained on; {why}"
    if (unseen := cut - ids_of(records)) and not is_without_model:
        return step_command(
            dataset, "caption"
        ), f"{len(unseen)} of {len(cut)} clips in the index have no caption by the captioner"
    if not captioned and _usable(records):
        return retry_command(
            dataset
        ), "no clip has a caption to train on: the captioner's usable texts are fields alone"
    if not _usable(records) and not is_without_model:
        other = f"reelpack caption {url} {OTHER_MODEL}"
        if not TO_RETRY.isdisjoint(records["status"].to_pylist()):
            return retry_command(dataset), f"no caption passed the checks; if a retry does not help, {other}"
        return other, "the captioner wrote nothing of any clip; docs/models/reelpack_llava.md names others"
    if missing or not encoded:
        own = "; they train with their own texts, and `reelpack caption` adds a model's" if has_own_texts else ""
        return step_command(
            dataset, "encode"
        ), f"{missing or len(cut)} of {len(cut)} clips in the index have no latents{own}"
    if unread := captioned - _embedded(dataset, now):
        return step_command(dataset, "encode"), f"the captions of {len(unread)} clips in the index are not embedded"
    return f"reelpack train {url} --out RUN", f"of {len(cut)} clips with latents {len(captioned)} have a caption"


def _embedded(dataset: Dataset, now: pa.Table) -> set[str]:
    """Clips that have embeddings of the captions that count now."""
    found: set[str] = set()
    for fingerprint in dataset.fingerprints("text"):
        record = read_record(dataset.layout.encoded("text", fingerprint)) or {}
        of = record.get("captions", [])
        if ([of] if isinstance(of, str) else of) == text_families(dataset):
            found |= encoded(dataset, "text", fingerprint, now)
    return found
