"""Which detector a file gets: files of one collection can come from several sources."""

import fnmatch
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from pydantic import BaseModel, ConfigDict, Field

from curate.shots.base import ShotDetector
from curate.shots.config import ShotDetectorConfig


class SourceConfig(BaseModel):
    """A detector for some of the files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    match: str = Field(
        min_length=1,
        description="glob on the URI, or on what follows one of its slashes; * also matches slashes",
    )
    detector: ShotDetectorConfig = Field(description="what finds the cuts of these files")


class Detectors:
    """The detector of each file: that of the first source whose pattern matches its URI, else the default.

    Args:
        default: Settings of the default one.
        sources: In the order in which they are tried.
    """

    def __init__(self, default: ShotDetectorConfig, sources: Sequence[SourceConfig] = ()) -> None:
        self._patterns = [re.compile(f"(?:.*/)?{fnmatch.translate(source.match)}", re.DOTALL) for source in sources]
        self._names = [source.match for source in sources]
        self._configs = [*(source.detector for source in sources), default]
        self._detectors = [config.build() for config in self._configs]

    def __iter__(self) -> Iterator[ShotDetector]:
        return iter(self._detectors)

    def of(self, uri: str) -> ShotDetector:
        return self._detectors[self._number(uri)]

    def config_of(self, uri: str) -> ShotDetectorConfig:
        return self._configs[self._number(uri)]

    def unused(self, uris: Iterable[str]) -> list[str]:
        """The patterns whose detector none of these files gets."""
        num_files = Counter(map(self._number, uris))
        return [name for number, name in enumerate(self._names) if not num_files[number]]

    def _number(self, uri: str) -> int:
        found = (number for number, pattern in enumerate(self._patterns) if pattern.match(uri))
        return next(found, len(self._patterns))
