"""The frames of one pass, fed to a shot detector in windows."""

import numpy as np

from curate.shots.base import ShotDetector


class WindowedScores:
    """The detector's scores of the frames that `add` is given, in order.

    Args:
        detector: After its `setup`.
        first_frame: Number of the first frame that is added, counted in its file.
    """

    def __init__(self, detector: ShotDetector, first_frame: int = 0) -> None:
        self._detector, self._window = detector, detector.window
        self._frames: list[np.ndarray] = []  # `back` frames of the past, then those that are not scored yet
        self._ready: list[np.ndarray] = []  # whole windows
        self._counts: list[int] = []  # how many of the scores of each of them are of frames, and not of padding
        self._scores: list[np.ndarray] = []
        self._num_added = self._num_covered = 0
        # Frames before the first window of the file's grid: they are its past.
        self._num_skipped = -first_frame % self._window.stride if self._window.aligned else 0

    def add(self, rgb: np.ndarray) -> None:
        """Take the next frame, `(h, w, 3)` uint8."""
        window, frame = self._window, self._scaled(rgb)
        if self._frames and frame.shape != self._frames[-1].shape:
            self._end_run()
        if not self._frames:
            self._frames = [frame] * window.back
        self._frames.append(frame)
        self._num_added += 1
        if self._num_added == self._num_skipped:
            self._scores.append(np.full((self._num_skipped, self._detector.num_scores), np.nan))
            self._num_covered = self._num_skipped
            del self._frames[: self._num_skipped]
        elif self._num_added > self._num_skipped and len(self._frames) == window.num_frames:
            self._cut(window.stride)

    def covers(self, count: int) -> bool:
        """Whether the first `count` frames have all the frames around them that their scores depend on."""
        if self._window.aligned:
            return self._num_covered >= count
        return self._num_added >= count + self._window.ahead

    def finish(self) -> np.ndarray:
        """`(n, num_scores)` of all frames. The last frame is repeated to fill the last window."""
        if self._num_added > self._num_skipped:
            self._end_run()
        return np.concatenate([np.zeros((0, self._detector.num_scores)), *self._scores])

    def _end_run(self) -> None:
        while (num_left := len(self._frames) - self._window.back) > 0:
            padding = self._window.num_frames - len(self._frames)
            self._frames += [self._frames[-1]] * padding
            self._cut(min(self._window.stride, num_left))
            # What is left of the window after this stride is padding, or frames that are not scored yet.
            del self._frames[self._window.back + max(0, num_left - self._window.stride) :]
        self._frames = []
        self._score()  # the next run can have frames of another size

    def _cut(self, count: int) -> None:
        """One full window with `count` scored frames. The next one begins `stride` frames later."""
        self._ready.append(np.stack(self._frames))
        self._counts.append(count)
        self._num_covered += count
        del self._frames[: self._window.stride]
        if len(self._ready) == self._window.per_call:
            self._score()

    def _score(self) -> None:
        if not self._ready:
            return
        windows = self._ready[0][None] if len(self._ready) == 1 else np.stack(self._ready)
        scores = self._detector.score(windows)
        self._scores += [one[:count] for one, count in zip(scores, self._counts, strict=True)]
        self._ready, self._counts = [], []

    def _scaled(self, rgb: np.ndarray) -> np.ndarray:
        if self._window.size_px is None or rgb.shape[:2] == self._window.size_px:
            return rgb
        import cv2

        height, width = self._window.size_px
        return np.asarray(cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA))
