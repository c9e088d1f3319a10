"""Which detector a file gets: files of one collection can come from several sources."""

import fnmatch
import re
from collections.abc import Collection, Iterator, Sequence

from pydantic import BaseModel, ConfigDict, Field

from curate.shots.base import ShotDetector
from curate.shots.config import ShotDetectorConfig
from curate.shots.stretch import StretchDetector
from curate.shots.whole import WholeConfig
from curate.storage.inside import split_stretch


class SourceConfig(BaseModel):
    """A detector for some of the files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    match: str = Field(
        min_length=1,
        description="glob on the URI, or on what follows one of its slashes; * also matches slashes",
    )
    detector: ShotDetectorConfig = Field(description="what finds the cuts of these files")


class Detectors:
    """The detector of each file: that of the first source whose pattern matches its URI, else the default; it is built
    for the first file that it is of. A stretch of a file is one shot.

    Args:
        default: Settings of the default one.
        sources: In the order in which they are tried.
    """

    def __init__(self, default: ShotDetectorConfig, sources: Sequence[SourceConfig] = ()) -> None:
        self._patterns = [re.compile(f"(?:.*/)?{fnmatch.translate(source.match)}", re.DOTALL) for source in sources]
        self._names = [source.match for source in sources]
        self._configs = [*(source.detector for source in sources), default, WholeConfig()]
        self._detectors: dict[int, ShotDetector] = {len(self._configs) - 1: StretchDetector()}
        self._ready: set[int] = set()

    def __iter__(self) -> Iterator[ShotDetector]:
        return map(self._at, range(len(self._configs) - 1))  # that of stretches has nothing to set up

    def of(self, uri: str) -> ShotDetector:
        """The detector of a file.

        Raises:
            MissingList: the list that it reads is not there.
        """
        return self._at(self._number(uri))

    def ready(self, uri: str) -> ShotDetector:
        """The same, after its `setup`."""
        number = self._number(uri)
        if number not in self._ready:
            self._at(number).setup()
            self._ready.add(number)
        return self._at(number)

    def config_of(self, uri: str) -> ShotDetectorConfig:
        return self._configs[self._number(uri)]

    def check(self, uris: Collection[str], known: Collection[str] = ()) -> list[str]:
        """What is worth telling before anything is scanned: patterns that no file gets its detector by, names in lists
        that are no input.

        Args:
            uris: Of the files.
            known: Of files that were scanned before.

        Raises:
            ValueError: a detector lacks its weights or its list, or the list does not fit the files.
        """
        files: dict[int, list[str]] = {}
        for uri in uris:
            files.setdefault(self._number(uri), []).append(uri)
        used = files.keys() | set(map(self._number, known))
        unused = [name for number, name in enumerate(self._names) if number not in used]
        notes = [f"scan.sources: {name} takes none of {len(uris)} inputs" for name in unused]
        for number, of_detector in sorted(files.items()):
            notes += self._at(number).check(of_detector)
        return notes

    def _at(self, number: int) -> ShotDetector:
        if number not in self._detectors:
            self._detectors[number] = self._configs[number].build()
        return self._detectors[number]

    def _number(self, uri: str) -> int:
        if split_stretch(uri) is not None:
            return len(self._patterns) + 1
        found = (number for number, pattern in enumerate(self._patterns) if pattern.match(uri))
        return next(found, len(self._patterns))
