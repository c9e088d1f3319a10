"""What a shot detector is: scores for each frame of a pass, then the transitions between shots.

A new one is a file with its settings and its class, and one line in `curate/shots/config.py`. The scan feeds it frames
in windows (`curate.shots.windows`), so it does not know how a file is read or divided.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np

Transition = tuple[int, int]
"""Half-open range of frame numbers that belong to no shot. Empty, `(n, n)`, at a hard cut before frame n."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """The frames that a detector sees at a time: `back` frames, the `stride` frames that it scores, `ahead` frames.

    Windows follow one another by `stride` frames. Before the first frame of a file and after its last one, that frame
    is repeated. A long file is scanned in parts; each part then begins and ends with as much context as is asked for
    here, so the scores are those of one pass.

    Attributes:
        size_px: Height and width that frames are scaled to, by area. None leaves them as the scan decodes them; where
            that size changes within a file, windows begin again.
        per_call: Windows that are scored in one call: the batch of a model.
        aligned: Whether a frame's scores depend on its place in the window, as those of a padded convolution do.
            Windows then begin at multiples of `stride` from the file's first frame; `size_px` is needed.
    """

    back: int = 0
    stride: int = 1
    ahead: int = 0
    size_px: tuple[int, int] | None = None
    per_call: int = 1
    aligned: bool = False

    def __post_init__(self) -> None:
        assert self.size_px or not self.aligned, "aligned windows need frames of one size"

    @property
    def num_frames(self) -> int:
        return self.back + self.stride + self.ahead

    @property
    def warm_frames(self) -> int:
        """Frames decoded before a part's first frame, so its frames get the scores of a pass over the whole file."""
        return self.back + (self.stride - 1 if self.aligned else 0)


class ShotDetectorSettings(Protocol):
    """A detector's settings, a frozen pydantic model: the member of the union. Needs no model library."""

    @property
    def kind(self) -> str:
        """A `Literal`: the detector's name."""

    def build(self) -> "ShotDetector": ...


class ShotDetector(Protocol):
    """Cheap to construct and to pickle. One instance serves many files: it keeps nothing between windows."""

    window: Window
    num_scores: int
    """Numbers per frame."""

    uses_gpu: bool
    """Whether a worker asks for `execute.gpus_per_worker`."""

    @property
    def weights(self) -> str:
        """Digest of the weights, which the dataset's scan key contains. Empty for none. Needs no `setup`.

        Raises:
            MissingWeights: local weights that are not there.
        """

    def setup(self) -> None:
        """Load the weights, once per worker."""

    def score(self, windows: np.ndarray) -> np.ndarray:
        """Scores of the `stride` frames in the middle of each window.

        Args:
            windows: `(b, back + stride + ahead, h, w, 3)` uint8 RGB, b <= `per_call`.

        Returns:
            `(b, stride, num_scores)` float64.
        """

    def transitions(self, scores: np.ndarray, pts: np.ndarray, time_base: Fraction, fps: Fraction) -> list[Transition]:
        """The transitions of a whole file, in order, not overlapping. Needs no `setup`.

        Args:
            scores: `(n, num_scores)` float64, of all frames of the file.
            pts: `(n,)` int64, when each frame is shown, in units of `time_base` seconds.
            time_base: Seconds per tick.
            fps: Average rate.
        """
