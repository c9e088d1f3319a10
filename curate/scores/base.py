"""What a scorer is: sampled frames of clips in, named values out. It decides nothing and decodes nothing.

CONTRIBUTING.md has a whole one.
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
        """Load the weights. Image encoders come from the pool, which shares them between scorers."""

    def score(self, clips: Sequence[ClipFrames]) -> list[dict[str, Value]]:
        """Values of each clip, in order.

        On a CPU, a clip's values do not depend on the other clips of the call, to the bit; on a GPU, up to rounding.
        An exception becomes a failure of the clips (see `ScoreStage`).

        Args:
            clips: sizes and numbers of frames differ from clip to clip.

        Returns:
            Column → value, per clip; all of them finite.
        """
