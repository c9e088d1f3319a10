"""What is computed of frames is kept as long as somebody holds the frames."""

import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

import numpy as np

T = TypeVar("T")


class ByFrames(Generic[T]):
    """Values by arrays of frames: one array, not an equal one, has one value. Arrays are not written to.

    Args:
        compute: arrays → their values.
    """

    def __init__(self, compute: Callable[[Sequence[np.ndarray]], Sequence[T]]) -> None:
        self._compute = compute
        self._found: dict[int, tuple[weakref.ref[np.ndarray], T]] = {}

    def of(self, arrays: Sequence[np.ndarray]) -> list[T]:
        """The values; those that are not known are computed together, each once."""
        new = {id(frames): frames for frames in arrays if id(frames) not in self._found}
        for (key, frames), value in zip(new.items(), self._compute(list(new.values())) if new else (), strict=True):
            self._found[key] = weakref.ref(frames, partial(self._lose, key)), value
        return [self._found[id(frames)][1] for frames in arrays]

    def _lose(self, key: int, _: object) -> None:
        self._found.pop(key, None)

    def clear(self) -> None:
        """Forget all values."""
        self._found.clear()
