"""Failed items, attempted again. The driver behind `reelpack retry DATASET`."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from curate.schema import RETRYABLE, FailureKind
from pipelines.curate_videos import CurateSummary, curate
from pipelines.dataset import Dataset
from pipelines.status import standing_failures

BY_DEFAULT = RETRYABLE | {FailureKind.MODEL, FailureKind.WORKER_DIED}
"""What may end differently without another file: a path that is back, a machine with more memory."""

STEPS = ("scan", "score", "cut")
"""Steps of `curate`; the others are repeated by their own commands."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RetrySummary:
    """Failures of `curate` that stood before and stand now, by `(step, kind)`; the run, None if nothing was to be
    done; and the commands that repeat what failed in other steps, with their number of failures."""

    before: Mapping[tuple[str, str], int]
    after: Mapping[tuple[str, str], int]
    curated: CurateSummary | None
    elsewhere: Mapping[str, int]


def retry(url: str, kinds: Collection[FailureKind] = BY_DEFAULT) -> RetrySummary:
    """Run `curate` again as it ran last, and attempt the failures of these kinds once more.

    Raises:
        ValueError: nothing was curated into `url`.
    """
    dataset = Dataset(url)
    made_with = dataset.made_with(or_running=True)
    config = dataset.config(or_running=True)
    elsewhere = Counter(
        f"reelpack {row['step']} {url}" for row in standing_failures(dataset) if row["step"] in ("caption", "encode")
    )
    before = _standing(dataset)
    chosen = {kind for _, kind in before if kind in set(kinds)}
    curated = curate(made_with["inputs"], url, config, retry=kinds) if chosen else None
    return RetrySummary(before=before, after=_standing(dataset), curated=curated, elsewhere=elsewhere)


def _standing(dataset: Dataset) -> dict[tuple[str, str], int]:
    rows = standing_failures(dataset)
    return dict(Counter((row["step"], row["kind"]) for row in rows if row["step"] not in ("caption", "encode")))
