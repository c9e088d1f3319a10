"""A shot among its neighbors: the frames between two transitions."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from curate.shots.base import Transition, TransitionKind

EdgeKind = TransitionKind | Literal["file", "resize"]
"""What separates a shot or clip from its neighbor. `file`: the file begins or ends there. `resize`: the size of the
frames changes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Edge:
    """One end of a shot or clip: what separates it from its neighbor, and how many frames between the two are left
    out."""

    kind: EdgeKind
    num_left_out: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Shot:
    """Half-open range of frame numbers. `number` counts the file's shots from 0; `num_shots` are joined in it."""

    first: int
    end: int
    number: int
    before: Edge
    after: Edge
    num_shots: int = 1


def shots_between(transitions: Sequence[Transition], resizes: Sequence[int], num_frames: int) -> list[Shot]:
    """The shots of a file. A transition at the first or the last frame leaves none on its other side.

    Args:
        transitions: In order, not overlapping.
        resizes: Frames from which on the size is another: a shot ends there as well.
        num_frames: Of the file.
    """
    inner = [number for number in resizes if not any(one.first <= number <= one.end for one in transitions)]
    marks: list[tuple[int, int, EdgeKind]] = [
        *((one.first, one.end, one.kind) for one in transitions),
        *((number, number, "resize") for number in inner),
    ]
    ends: list[tuple[int, int, EdgeKind]] = [(0, 0, "file"), *sorted(marks), (num_frames, num_frames, "file")]
    gaps = [pair for pair in pairwise(ends) if pair[0][1] < pair[1][0]]
    return [
        Shot(
            first=begin[1],
            end=end[0],
            number=number,
            before=Edge(kind=begin[2], num_left_out=begin[1] - begin[0]),
            after=Edge(kind=end[2], num_left_out=end[1] - end[0]),
        )
        for number, (begin, end) in enumerate(gaps)
    ]
