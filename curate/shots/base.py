"""What a shot detector is: scores for each frame of a pass, then the transitions between shots.

A new one is a file with its settings and its class, and one line in `curate/shots/config.py`. The scan feeds it frames
in windows (`curate.shots.windows`), so it does not know how a file is read or divided.
"""

from collections.abc import Collection
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, NamedTuple, Protocol

import numpy as np

TransitionKind = Literal["cut", "blend", "fade", "gradual", "gap", "divided"]
"""`cut`: no frame between the shots. `blend`: one or two frames at a hard cut that mix both shots, as the conversion
of a frame rate leaves them. `fade`: through one color. `gradual`: dissolves, wipes and other changes over several
frames. `gap`: frames that the detector was told to leave out. `divided`: one shot ends and begins there for its length
alone."""


class Transition(NamedTuple):
    """Half-open range of frame numbers that belong to no shot. Empty, `(n, n)`, at a hard cut before frame n."""

    first: int
    end: int
    kind: TransitionKind = "cut"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Timeline:
    """When the frames of a file are shown.

    Attributes:
        uri: The user's name for the file.
        pts: `(n,)` int64, increasing, when each frame is shown, in units of `time_base` seconds.
        end_pts: When the last one ends.
        fps: Average rate.
    """

    uri: str
    pts: np.ndarray
    end_pts: int
    time_base: Fraction
    fps: Fraction

    @property
    def starts_s(self) -> np.ndarray:
        """`(n,)` float64, seconds on the file's clock."""
        return np.asarray(self.pts * float(self.time_base))

    @property
    def end_s(self) -> float:
        return float(self.end_pts * self.time_base)

    @property
    def edges_s(self) -> np.ndarray:
        """`(n + 1,)` float64: where each frame begins, and where the last one ends."""
        return np.append(self.starts_s, self.end_s)


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

    def digest(self, uri: str) -> str:
        """Digest of what decides besides the settings: weights, or what a list says of the file at this URI. The scan
        key of the file contains it. Empty for nothing. Needs no `setup`, and no weights on this machine.
        """

    def check(self, uris: Collection[str]) -> list[str]:
        """See, before anything is scanned, that it has what it needs for the files that it is for.

        Returns:
            What is worth telling.

        Raises:
            MissingWeights: local weights that are not there.
            ValueError: a list does not fit the files.
        """

    def setup(self) -> None:
        """Make ready, once per worker, before the first file that needs it."""

    def score(self, windows: np.ndarray) -> np.ndarray:
        """Scores of the `stride` frames in the middle of each window.

        Args:
            windows: `(b, back + stride + ahead, h, w, 3)` uint8 RGB, b <= `per_call`.

        Returns:
            `(b, stride, num_scores)` float64.
        """

    def transitions(self, scores: np.ndarray, timeline: Timeline) -> list[Transition]:
        """The transitions of a whole file, in order, not overlapping. Needs no `setup`.

        Args:
            scores: `(n, num_scores)` float64, of all frames of the file.
            timeline: When they are shown.

        Raises:
            MediaError: what the detector was told of the file does not fit it.
        """
