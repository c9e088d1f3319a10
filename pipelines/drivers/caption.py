"""Clips → caption records, and their texts in the index. The driver behind `reelpack caption DATASET`."""

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from caption.config import CaptionConfig
from curate.dataset.captions import LEVELS, TEXT_LEVELS, USABLE, caption_column, reason_of
from curate.dataset.dataset import Dataset
from curate.encoders.fingerprint import other_libraries
from curate.storage.claims import Claims
from pipelines.config import Config
from pipelines.console.readers import fallback_note
from pipelines.dataset import check_cut, config_of
from pipelines.drivers.originals import OriginalSummary, original_column, store_originals
from pipelines.steps.caption import Done, caption_missing, retry_command, save_settings
from pipelines.steps.caption_items import stored_records


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionSummary:
    """The captions in the index (`num_captions`, over all levels that condition a model), and what this run did.

    Attributes:
        family: Names the captioner's table; None: no model was asked.
        levels: Captions in the index by level, `fields` too.
        states: The captioner's records of the indexed clips by how they ended, `CaptionStatus`.
        codes: Reason code → records that have it.
        num_retried: Records of this run that took more than one attempt.
        reasons: Why those without text have none, in order of their frequency.
        starved: Share of this run's time in which the model waited for frames.
        failures: Why clips failed in this run, in order of their frequency.
        retry_command: What attempts again what failed, and the captions that no attempt passed; None: there are none.
        original: The user's own text.
        notes: What a reader must know of the captions, and of what made the earlier ones.
    """

    family: str | None
    num_clips: int
    num_new: int
    num_failed: int
    num_captions: int
    levels: Mapping[str, int]
    states: Mapping[str, int]
    codes: Mapping[str, int]
    num_retried: int
    reasons: tuple[str, ...]
    starved: float
    failures: tuple[str, ...]
    retry_command: str | None
    original: OriginalSummary
    notes: tuple[str, ...]
    seconds: float

    @property
    def why_nothing(self) -> str:
        """What to say where no clip has a caption to train on."""
        if self.family is None and self.num_clips:
            why = f"the column {self.original.column} has no text that can be used; expected a title or a description"
            return f"no clip has a caption: {why}"
        if self.levels:
            return f"no clip has a caption to train on: {self.levels['fields']} have fields alone"
        return "no clip has a caption: the model wrote nothing, every clip failed, or the index is empty"


def caption(url: str, config: Config, *, retry: bool = False) -> CaptionSummary:
    """Caption the indexed clips that, as they are cut now, lack a record by this captioner, prompt and frame sampling.

    Args:
        url: the dataset directory.
        config: its sections `caption` and `execute` count.
        retry: attempt again the captions that no attempt passed.

    Raises:
        ValueError: the dataset has no index, or clips in it that are not cut with its settings; another command alone
            writes its captions; the model cannot be loaded (with what is missing); `caption.original` names no column
            of text; neither a model nor a column is given.
    """
    dataset = Dataset(url)
    check_cut(dataset)
    if original_column(dataset, config.caption.original) is None and config.caption.backend is None:
        raise ValueError(
            "caption.backend=null and caption.original=null: nothing would write a caption; expected a model, or the "
            "sidecar's column with your own text"
        )
    with dataset.shared_writer("captions") as claims:
        return _caption(dataset, config, claims, retry)


def _caption(dataset: Dataset, config: Config, claims: Claims, retry: bool) -> CaptionSummary:
    start = time.monotonic()
    settings = config.caption.pinned().read_by(config.media)
    original = store_originals(dataset, settings.original)
    done = Done()
    if settings.backend is not None:
        settings.reader.setup()
        done = caption_missing(dataset, settings, config.execute, claims, retry=retry)
        save_settings(dataset, settings)
    else:
        last = dataset.sections().get("caption", {})
        kept = last if last.get("backend") else settings.model_dump(mode="json")
        dataset.save_section("caption", {**kept, "original": settings.original})  # the captioner's captions stay
    dataset.write_index(config_of(dataset).shards.key)
    indexed = dataset.read_index()
    stored = stored_records(dataset, settings.family, indexed, ["text", "status", "findings"])
    records = stored.to_pylist()
    texts = {level: indexed[caption_column(level)].to_pylist() for level in LEVELS}
    levels: dict[str, int] = {
        level: number for level, of_level in texts.items() if (number := sum(map(bool, of_level)))
    }
    return CaptionSummary(
        family=settings.family,
        num_clips=indexed.num_rows,
        num_new=done.num_new,
        num_failed=done.num_failed,
        num_captions=sum(levels.get(level, 0) for level in TEXT_LEVELS),
        levels=levels,
        states=Counter(record["status"] for record in records),
        codes=Counter(finding["code"] for record in records for finding in record["findings"] or ()),
        num_retried=done.num_retried,
        reasons=tuple(_counted(reason_of(record) for record in records if record["status"] not in USABLE)),
        starved=done.starved,
        failures=tuple(_counted(f"{one.kind}: {one.detail}" for one in done.failed.values())),
        retry_command=retry_command(dataset) if done.failed or dataset.to_retry(stored, indexed).num_rows else None,
        original=original,
        notes=tuple(_notes(settings, done)),
        seconds=time.monotonic() - start,
    )


def _counted(reasons: Iterable[str]) -> list[str]:
    """Reasons with their number, the most frequent first; figures in them, which differ clip by clip, are left out."""
    counted = Counter(reason.partition(" (")[0] for reason in reasons)
    return [f"{count} × {reason}" for reason, count in counted.most_common()]


def _notes(settings: CaptionConfig, done: Done) -> Iterator[str]:
    if note := fallback_note(settings.media, done.fallbacks):
        yield note
    if settings.backend and (caveat := settings.backend.caveat):
        yield f"the captions are by {caveat}"
    for stored in sorted(done.earlier_libraries) if done.num_new else ():
        if unlike := other_libraries(json.loads(stored), "earlier captions of this table"):
            yield unlike
