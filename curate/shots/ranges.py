"""Ranges of frames: runs of marked ones, and transitions that touch."""

from collections.abc import Iterable

import numpy as np

from curate.shots.base import Transition


def runs(marked: np.ndarray) -> list[tuple[int, int]]:
    """`(n,)` bool to half-open ranges of consecutive marked frames, in order."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marked, [False]]).astype(np.int8)))
    return [(int(first), int(end)) for first, end in edges.reshape(-1, 2)]


def joined(transitions: Iterable[Transition]) -> list[Transition]:
    """Transitions in the order of their first frames. Those that overlap become one: a fade if one of them is, else of
    the kind of the longest."""
    found: list[Transition] = []
    for one in transitions:
        if found and one.first < found[-1].end:
            before = found.pop()
            kind = max(before, one, key=lambda each: (each.kind == "fade", each.end - each.first)).kind
            one = Transition(before.first, max(before.end, one.end), kind)
        found.append(one)
    return found
