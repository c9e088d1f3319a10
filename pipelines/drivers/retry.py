"""Failed items, attempted again. The driver behind `reelpack retry DATASET`."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from curate.dataset.dataset import Dataset
from curate.schema import FailureKind
from pipelines.dataset import config_of
from pipelines.drivers.curate import CurateSummary, curate
from pipelines.execute.base import ExecuteConfig
from pipelines.inspection.failures import LATER_STEPS, WORTH_RETRYING, FailureGroup, grouped, standing_failures


@dataclass(frozen=True, kw_only=True, slots=True)
class RetrySummary:
    """The result of a retry.

    Attributes:
        num_succeeded: Items that had failed and have a result now.
        failures: Failures of `curate` that remain.
        curated: The run; None if no failure was of a kind to attempt again.
    """

    num_succeeded: int
    failures: tuple[FailureGroup, ...]
    curated: CurateSummary | None


def failing(url: str) -> tuple[tuple[FailureGroup, ...], Mapping[str, int]]:
    """The failures of `curate` that stand, and for those of later steps: command that attempts them again → number.

    Raises:
        ValueError: nothing was curated into `url`.
    """
    dataset = Dataset(url)
    dataset.made_with(or_running=True)
    rows = standing_failures(dataset)
    later = Counter(row["retry_command"] for row in rows if row["step"] in LATER_STEPS)
    return grouped(row for row in rows if row["step"] not in LATER_STEPS), later


def retry(
    url: str,
    kinds: Collection[FailureKind] = WORTH_RETRYING,
    execute: ExecuteConfig | None = None,
    *,
    drop_failed: bool = False,
) -> RetrySummary:
    """Run `curate` again with the inputs and settings of the last run, and attempt the failures of these kinds. Every
    run of `curate` attempts the retryable ones.

    Args:
        url: the dataset directory.
        kinds: of failures.
        execute: how stages are run; None: the defaults, not the settings of the last run.
        drop_failed: clips may leave the index because of failures alone.

    Raises:
        ValueError: nothing was curated into `url`.
    """
    dataset = Dataset(url)
    made_with, config = dataset.made_with(or_running=True), config_of(dataset, or_running=True)
    config = config.model_copy(update={"execute": execute or ExecuteConfig()})
    before = _standing(dataset)
    curated = None
    if set(before.values()) & set(kinds):
        curated = curate(
            made_with["inputs"],
            url,
            config,
            lists=made_with.get("lists", ()),
            retry=kinds,
            drop_failed=drop_failed,
        )
    return RetrySummary(
        num_succeeded=len(before.keys() - _standing(dataset).keys()), failures=failing(url)[0], curated=curated
    )


def _standing(dataset: Dataset) -> dict[tuple[str, str], str]:
    """Step and subject of the failures of `curate` → kind."""
    rows = standing_failures(dataset)
    return {(row["step"], row["subject"]): row["kind"] for row in rows if row["step"] not in LATER_STEPS}
