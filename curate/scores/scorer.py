"""What a scorer is: sampled frames of clips in, named numbers out. It decides nothing and decodes nothing.

A new one is a file with its config and its class, and one line in `curate/scores/score.py`.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np


class Scorer(Protocol):
    """Cheap to construct and to pickle; `setup` loads the weights, once per worker."""

    @property
    def name(self) -> str:
        """The family's name: the start of its table's name."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the values, unique among all scorers: a policy refers to them."""

    @property
    def key(self) -> str:
        """Digest of parameters and weights: equal keys, equal values. Needs no `setup`.

        Raises:
            MissingWeights: local weights that are not there.
        """

    def setup(self) -> None:
        """Load the weights."""

    def score(self, clips: Sequence[np.ndarray]) -> list[dict[str, float]]:
        """Values of each clip, in order; which others are in the call changes no bit of them.

        Args:
            clips: sampled frames of each clip, (T, H, W, 3) uint8 RGB, T ≥ 1; sizes differ from clip to clip.

        Returns:
            `columns` → value, per clip.
        """
