"""What detectors without weights have in common, and those that look at no frame."""

from collections.abc import Collection

import numpy as np

from curate.shots.base import Window


class Weightless:
    """Nothing is loaded, and only the settings decide."""

    uses_gpu = False

    def digest(self, uri: str) -> str:
        return ""

    def check(self, uris: Collection[str]) -> list[str]:
        return []

    def setup(self) -> None:
        """There is nothing to load."""


class Unscored(Weightless):
    """Decides by the timeline alone."""

    window = Window()
    num_scores = 0

    def score(self, windows: np.ndarray) -> np.ndarray:
        """No scores: `(b, 1, 0)`."""
        return np.zeros((len(windows), 1, 0))
