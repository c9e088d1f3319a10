"""A shot detector like a network with weights: long windows, small frames, a batch, scores by place in the window."""

from collections.abc import Collection
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from curate.shots.base import Timeline, Transition, Window

WINDOW = Window(back=25, stride=50, ahead=25, size_px=(27, 48), per_call=2, aligned=True)
KERNELS = np.random.default_rng(0).normal(size=(WINDOW.stride, WINDOW.num_frames))
DARK = 4.0
"""Mean luma, of 255, below which a frame belongs to no shot."""


class WindowedConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["windowed"] = "windowed"

    def build(self) -> "WindowedDetector":
        return WindowedDetector()


class WindowedDetector:
    window = WINDOW
    num_scores = 2
    uses_gpu = False

    def __init__(self) -> None:
        self._kernels: np.ndarray | None = None
        self.calls: list[int] = []

    def digest(self, uri: str) -> str:
        return "kernels-1"

    def check(self, uris: Collection[str]) -> list[str]:
        return []

    def setup(self) -> None:
        self._kernels = KERNELS

    def score(self, windows: np.ndarray) -> np.ndarray:
        assert self._kernels is not None, "setup() comes first"
        assert windows.shape[1:] == (WINDOW.num_frames, *WINDOW.size_px, 3)  # type: ignore[misc]
        self.calls.append(len(windows))
        means = windows.mean(axis=(2, 3, 4))  # (b, 100)
        mixed = np.stack([(self._kernels * one).sum(axis=1) for one in means])  # depends on the whole window
        return np.stack([mixed, means[:, WINDOW.back : -WINDOW.ahead]], axis=2)

    def transitions(self, scores: np.ndarray, timeline: Timeline) -> list[Transition]:
        is_dark = np.concatenate([[0], scores[:, 1] < DARK, [0]]).astype(int)
        begins, ends = np.flatnonzero(np.diff(is_dark) > 0), np.flatnonzero(np.diff(is_dark) < 0)
        return [Transition(int(first), int(end), "fade") for first, end in zip(begins, ends, strict=True)]
