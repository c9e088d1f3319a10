"""What a scorer is: sampled frames of clips in, named values out. It decides nothing and decodes nothing.

A new one is a file with its config and its class, and one line in `curate/scores/config.py`.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

from curate.encoders.base import EncoderPool
from curate.rules import Column
from curate.scores.frames import ClipFrames

Value = float | str | list[float]
"""Numbers and text are columns of `clips.parquet` that a policy can rule; a vector stays in its family's table."""


class ScorerSettings(Protocol):
    """A scorer's settings, a frozen pydantic model: the member of the union. Needs no model library."""

    @property
    def kind(self) -> str:
        """A `Literal`: the scorer's name, and the start of its table's name."""

    columns: ClassVar[Mapping[str, Column]]
    """What the scorer gives for each clip, by names that no other scorer has: type, range and default rule."""

    def build(self) -> "Scorer": ...


class Scorer(Protocol):
    """Cheap to construct and to pickle; `setup` loads the weights, once per worker."""

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
            Column → value, per clip; all of them finite.
        """
