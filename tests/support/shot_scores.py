"""How found transitions are scored: PySceneDetect's protocol (after TRECVID's), and what the clips hold.

A prediction is one boundary: its frame number for a hard cut, the middle frame for a range. First, a boundary in a
labeled range of frames, or at the frame before or after it, is the range's: the first one finds it, each further one
is false. Each other boundary is matched with the nearest hard cut within the tolerance, one to one. What remains is
false. Unlike there, the end of the file is no cut, and ranges of up to two frames (blends) are counted apart.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from curate.shots.base import Transition

TOLERANCES = (0, 1)
MAX_BLEND_FRAMES = 2


@dataclass(kw_only=True)
class Tally:
    """Counts of one or several films; `+=` adds another's."""

    num_hard: int = 0
    num_blends: int = 0
    num_gradual: int = 0
    hard_found: Counter[int] = field(default_factory=Counter)
    """By tolerance, as the next."""
    hard_false: Counter[int] = field(default_factory=Counter)
    blends_found: int = 0
    gradual_found: int = 0
    doubles: int = 0
    """Further boundaries in a range that is found already."""
    num_clips: int = 0
    impure: int = 0
    """Clips with a frame of a transition or of a second shot."""
    two_shots: int = 0
    lost_frames: int = 0
    """Frames of one shot that are in no clip."""
    num_shot_frames: int = 0
    num_frames: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0

    def __iadd__(self, other: "Tally") -> "Tally":
        for name in vars(self):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self

    def f1(self, tolerance: int) -> float:
        """Of hard cuts, 0 to 1."""
        found = self.hard_found[tolerance]
        return 2 * found / max(1, self.num_hard + found + self.hard_false[tolerance])

    @property
    def num_false(self) -> int:
        return self.hard_false[max(TOLERANCES)] + self.doubles


def tally(
    predicted: Sequence[Transition], labels: Sequence[Transition], clips: Iterable[tuple[int, int]], num_frames: int
) -> Tally:
    """Counts of one film.

    Args:
        predicted: What was found.
        labels: What is there; both in order, as half-open ranges.
        clips: Half-open ranges of frames that are kept as clips.
        num_frames: Of the film.
    """
    ranges = [label for label in labels if label.first < label.end]
    cuts = [label.first for label in labels if label.first == label.end]
    result = Tally(num_hard=len(cuts), num_frames=num_frames)
    rest, found = [], set()
    for boundary in (((one.first + one.end) // 2) for one in predicted):
        within = next((n for n, one in enumerate(ranges) if one.first - 1 <= boundary <= one.end), None)
        if within is None:
            rest.append(boundary)
        elif within in found:
            result.doubles += 1
        else:
            found.add(within)
    for number, one in enumerate(ranges):
        if one.end - one.first <= MAX_BLEND_FRAMES:
            result.num_blends += 1
            result.blends_found += number in found
        else:
            result.num_gradual += 1
            result.gradual_found += number in found
    for tolerance in TOLERANCES:
        result.hard_found[tolerance] = matches(rest, cuts, tolerance)
        result.hard_false[tolerance] = len(rest) - result.hard_found[tolerance]
    _count_clips(result, clips, shot_of(labels, num_frames))
    return result


def matches(predicted: Sequence[int], cuts: Sequence[int], tolerance: int) -> int:
    """Pairs of equal frame numbers up to the tolerance, one to one, nearest first."""
    near = sorted(
        (abs(one - other), i, j)
        for i, one in enumerate(predicted)
        for j, other in enumerate(cuts)
        if abs(one - other) <= tolerance
    )
    taken: set[int] = set()
    used: set[int] = set()
    for _, i, j in near:
        if i not in used and j not in taken:
            used.add(i)
            taken.add(j)
    return len(taken)


def false_boundaries(predicted: Sequence[Transition], labels: Sequence[Transition]) -> list[int]:
    """Boundaries that lie more than one frame from every label."""
    middles = [(one.first + one.end) // 2 for one in predicted]
    return [n for n in middles if not any(label.first - 1 <= n <= label.end + 1 for label in labels)]


def shot_of(labels: Sequence[Transition], num_frames: int) -> np.ndarray:
    """`(num_frames,)` int64: the shot that each frame shows, from 0; -1 in a transition."""
    shots = np.zeros(num_frames, np.int64)
    for number, label in enumerate(labels, 1):
        shots[label.end :] = number
        shots[label.first : label.end] = -1
    return shots


def _count_clips(result: Tally, clips: Iterable[tuple[int, int]], shots: np.ndarray) -> None:
    result.num_shot_frames = int((shots >= 0).sum())
    kept = np.zeros(len(shots), bool)
    for first, end in clips:
        within = np.unique(shots[first:end])
        result.num_clips += 1
        result.impure += int(within[0] < 0 or len(within) > 1)
        result.two_shots += int((within >= 0).sum() > 1)
        kept[first:end] = True
    result.lost_frames = int((~kept & (shots >= 0)).sum())
