"""PySceneDetect's detectors: imported without their package's `__init__`, and given scores in the place of pictures.

The `__init__` runs `ffmpeg` to see if it is installed. That child process asks for the terminal, and the system stops
a background worker for it (PySceneDetect 0.7.2, `scenedetect.output.video`).
"""

import importlib
import importlib.util
import sys
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

from curate.shots.base import Timeline, Transition

PACKAGE = "scenedetect"
_loading = threading.Lock()


def load(name: str) -> ModuleType:
    """The module `scenedetect.<name>`, such as `detectors` or `common`, without the `__init__` of the package.

    Raises:
        ImportError: PySceneDetect is not installed.
    """
    with _loading:
        if PACKAGE in sys.modules:
            return importlib.import_module(f"{PACKAGE}.{name}")
        spec = importlib.util.find_spec(PACKAGE)
        if spec is None or spec.submodule_search_locations is None:
            raise ModuleNotFoundError(f"No module named '{PACKAGE}'", name=PACKAGE)
        bare = ModuleType(PACKAGE)
        bare.__path__ = list(spec.submodule_search_locations)
        sys.modules[PACKAGE] = bare
        try:
            return importlib.import_module(f"{PACKAGE}.{name}")
        finally:
            del sys.modules[PACKAGE]  # a later import of the package gets all of it


def times(timeline: Timeline) -> Iterator[Any]:
    """PySceneDetect's time of each frame. It starts at zero."""
    common = load("common")
    for ticks in (timeline.pts - timeline.pts[0]).tolist():
        yield common.FrameTimecode(common.Timecode(pts=ticks, time_base=timeline.time_base), fps=timeline.fps)


def cuts_by_content(name: str, scores: np.ndarray, timeline: Timeline, **settings: Any) -> list[Transition]:
    """The cuts of a detector that decides by content scores.

    Args:
        name: ContentDetector, or a class on it.
        scores: `(n, 1)`, of each frame.
        timeline: When the frames are shown.
        settings: Those of the class.
    """
    base: Any = getattr(load("detectors"), name)

    class Scored(base):
        def _calculate_frame_score(self, timecode: object, frame_img: np.ndarray) -> float:
            return float(frame_img[0])

    detector = Scored(**settings)
    start = int(timeline.pts[0])
    ticks = [cut.pts + start for now, score in zip(times(timeline), scores, strict=True)
             for cut in detector.process_frame(now, score)]  # fmt: skip
    return hard_cuts(np.searchsorted(timeline.pts, ticks))


def spaced_cuts(is_cut: np.ndarray, timeline: Timeline, min_scene_len_s: float) -> list[Transition]:
    """The rule of HistogramDetector and HashDetector: of the frames that look like a cut, `(n,)`, those at least
    `min_scene_len_s` after the cut before, or after the first frame."""
    last, found = int(timeline.pts[0]), []
    for number in np.flatnonzero(is_cut).tolist():
        ticks = int(timeline.pts[number])
        if number and float((ticks - last) * timeline.time_base) >= min_scene_len_s:
            found.append(number)
            last = ticks
    return hard_cuts(found)


def hard_cuts(frames: Any) -> list[Transition]:
    return [Transition(int(first), int(first)) for first in frames]
