"""What a scorer is: sampled frames of clips in, named values out. It decides nothing and decodes nothing.

A new one is a file with its config and its class, and one line in `curate/scores/config.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import pyarrow as pa

from curate.encoders.base import EncoderPool
from curate.scores.frames import ClipFrames

Value = float | list[float]
"""Numbers are columns of `clips.parquet` that a policy can bound; a vector stays in its family's table."""


class Scorer(Protocol):
    """Cheap to construct and to pickle; `setup` loads the weights, once per worker."""

    @property
    def name(self) -> str:
        """The family's name: the start of its table's name."""

    @property
    def columns(self) -> Mapping[str, pa.DataType]:
        """Names of the values, unique among all scorers: a policy refers to them. Numbers are float64."""

    @property
    def key(self) -> str:
        """Digest of parameters and weights: equal keys, equal values. Needs no `setup`.

        Raises:
            MissingWeights: local weights that are not there.
        """

    def setup(self, encoders: EncoderPool) -> None:
        """Load the weights; image encoders come from the pool, that scorers may share them."""

    def score(self, clips: Sequence[ClipFrames]) -> list[dict[str, Value]]:
        """Values of each clip, in order.

        Which others are in the call changes no bit of them on a CPU, and next to nothing on a GPU. Any exception is
        the clips' failure (see `ScoreStage`), but one: a finite value that is wrong is not found out.

        Args:
            clips: sizes and numbers of frames differ from clip to clip.

        Returns:
            `columns` → value, per clip; all of them finite.
        """
