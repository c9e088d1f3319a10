"""The decisions that a report can be laid beside: versions of its dataset, and another dataset."""

from collections.abc import Mapping
from typing import Any

from curate.dataset.dataset import Dataset
from curate.dataset.versions import find_version, versions
from curate.report.against import Against, against_dataset, against_version
from curate.report.data import DatasetView
from pipelines.config import CURATION_SECTIONS
from pipelines.drivers.versions import changed

MAX_COMMAND_CHARS = 40
DECIDING = {*CURATION_SECTIONS} - {"execute", "media", "sidecar"}


def against(view: DatasetView, what: str) -> Against:
    """
    Args:
        view: the dataset of the report.
        what: number of a version of it, or the directory of another dataset.

    Raises:
        ValueError: there is no such version, or nothing was curated into that directory.
    """
    here = view.made_with
    if what.isascii() and what.isdigit():
        version = find_version(Dataset(view.url), int(what))
        return against_version(view, version, _changed(here, version.settings))
    other = Dataset(what)
    return against_dataset(view, other, _changed(here, other.sections().get("curate", {})))


def choices(view: DatasetView, other: str | None = None) -> dict[str, str]:
    """What a reader can choose: `what` of `against` → words for it, the newest version first.

    Args:
        view: the dataset of the report.
        other: `what` that was asked for.
    """
    found = {str(one.number): f"version {one.number}: {one.command}" for one in reversed(versions(Dataset(view.url)))}
    if other and other not in found:
        found = {other: other.rstrip("/").rpartition("/")[2], **found}
    return {
        key: f"{text[:MAX_COMMAND_CHARS]}…" if len(text) > MAX_COMMAND_CHARS else text for key, text in found.items()
    }


def _changed(here: Mapping[str, Any], there: Mapping[str, Any]) -> tuple[str, ...]:
    sides = ({name: value for name, value in side.items() if name in DECIDING} for side in (here, there))
    return changed(*sides)
