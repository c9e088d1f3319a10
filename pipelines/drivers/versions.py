"""Versions of the decision, listed, compared and decided again: the drivers of `reelpack log`, `diff`, `checkout`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curate.dataset.dataset import Dataset
from curate.dataset.versions import Version, find_version, num_unlike, versions
from pipelines.config import CURATION_SECTIONS, Config, differences, upgraded
from pipelines.drivers.select import SelectSummary, decide_again


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A version, and the settings in which it differs from the one before; none of the first."""

    version: Version
    changed: tuple[str, ...]


def log(url: str) -> list[Entry]:
    """All versions, the first one first.

    Raises:
        ValueError: nothing was curated into `url`.
    """
    dataset = Dataset(url)
    dataset.made_with(or_running=True)
    found = versions(dataset)
    before: Sequence[Version | None] = [None, *found]
    return [
        Entry(version=one, changed=() if last is None else changed_settings(last, one))
        for last, one in zip(before, found, strict=False)
    ]


def changed_settings(old: Version, new: Version) -> tuple[str, ...]:
    """What the settings of `new` are where those of `old` are others: `select.rules.motion.min=0.01`."""
    return changed(old.settings, new.settings)


def changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    """The same of two sections `curate` of config.yaml, for what both have."""
    before, after = upgraded(old), upgraded(new)
    sections = [name for name in after if name in before]
    return tuple(text for name in sections for text in differences(after[name], before[name], name))


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckoutSummary:
    """The decision by the settings of another version; how many clips are decided otherwise than then, because tables
    or captions have changed since."""

    decided: SelectSummary
    num_unlike: int


def checkout(url: str, number: int) -> CheckoutSummary:
    """Decide by the settings of a version, which become the dataset's; decodes nothing. Clips that are cut stay cut.

    Args:
        url: the dataset directory.
        number: of the version.

    Raises:
        ValueError: there is no such version, its scores are not there any more, or another version of the scan found
            the clips.
    """
    dataset = Dataset(url)
    section = {**dataset.made_with(), **find_version(dataset, number).settings}
    names = {*CURATION_SECTIONS} - {"execute"}
    config = Config.model_validate(upgraded({name: section[name] for name in names if name in section}))
    lost = [family for family, columns in dataset.columns_of(section["families"]).items() if not columns]
    if lost and dataset.clips.part_names():
        raise ValueError(
            f"{url}: version {number} was decided with scores that are not there any more: {', '.join(lost)}; "
            "`reelpack curate` with its settings computes them again: `reelpack diff` shows those"
        )
    decided = decide_again(dataset, config, section)
    return CheckoutSummary(decided=decided, num_unlike=num_unlike(dataset, number))
