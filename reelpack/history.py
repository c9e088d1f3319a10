"""What was decided before, and what is to go: `checkout`, `forget`."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.console.interrupted import of_dataset
from reelpack.curation import Path, names_of
from reelpack.dataset import Dataset, url_of
from reelpack.errors import NothingKept
from reelpack.results import Selected
from reelpack.running import running

if TYPE_CHECKING:
    from pipelines.drivers.forget import ForgetPlan, ForgetSummary


@dataclass(frozen=True, kw_only=True)
class Forgotten:
    """What `forget` removed, or would remove.

    Attributes:
        dataset: it was removed from.
        videos: URIs of the videos.
        num_clips: of them.
        copies: URIs of videos with copies of these clips, which stay.
        runs: folders of trainings on the dataset: what they learned stays in their weights.
        plan: all that `forget --dry-run` prints.
        summary: all that `forget` prints; None: nothing was changed.
    """

    dataset: Dataset
    videos: tuple[str, ...]
    num_clips: int
    copies: tuple[str, ...]
    runs: tuple[str, ...]
    plan: "ForgetPlan"
    summary: "ForgetSummary | None"

    def __repr__(self) -> str:
        told = "forgotten" if self.summary else "to be forgotten"
        return f"<{self.dataset.url}: {len(self.videos)} videos with {self.num_clips} clips {told}>"


def checkout(dataset: Dataset | Path, version: int) -> Selected:
    """Decide by the settings of a version, from stored scores: it becomes the newest version; decodes nothing.

    Args:
        dataset: a dataset, or its directory.
        version: its number, of `Dataset.versions()`.

    Raises:
        NothingKept: the policy rejects every clip, and is the dataset's now.
        ValueError: there is no such version, or its scores are not there any more.
    """
    with running("curate", of_dataset, url_of(dataset)):
        from pipelines.drivers import versions

        done = versions.checkout(url_of(dataset), version).decided
    if not done.after.get("keep"):
        raise NothingKept(f"{url_of(dataset)}: {done.why_nothing}")
    return Selected.of(Dataset(url_of(dataset)), done)


def forget(
    dataset: Dataset | Path,
    videos: Path | Iterable[Path] = (),
    *,
    where: str | None = None,
    duplicates: bool = False,
    reason: str = "",
    runs: Path | Iterable[Path] = (),
    dry_run: bool = False,
) -> Forgotten:
    """Take videos down, with all that was made of them: nothing below the dataset holds them, and no later run takes
    them up again.

    Args:
        dataset: a dataset, or its directory.
        videos: URIs or ends of them, ids, or a clip of each; with none, and no `where`: all that were forgotten,
            again.
        where: also the videos of clips that meet this condition of SQL.
        duplicates: also the videos with copies of their clips.
        reason: kept with the tombstone.
        runs: folders in which trainings of the dataset lie, besides the one that it lies in.
        dry_run: change nothing.

    Raises:
        Occupied: another process writes into the dataset.
        ValueError: no dataset, or a name is of no video, or of several.
    """
    url = url_of(dataset)
    with running("export", of_dataset, url):  # the extra that brings DuckDB, for `where`
        from pipelines.drivers import forget as driver

        plan = driver.plan_forget(url, names_of(videos), where, duplicates=duplicates, runs=names_of(runs))
        summary = driver.forget(url, plan.targets, reason) if plan.targets and not dry_run else None
    return Forgotten(
        dataset=Dataset(url),
        videos=tuple(uri for target in plan.targets for uri in target.uris),
        num_clips=plan.num_clips,
        copies=tuple(uri for copy in plan.copies for uri in copy.uris),
        runs=tuple(run.folder for run in plan.runs),
        plan=plan,
        summary=summary,
    )
