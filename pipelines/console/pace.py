"""Rate of work, and time left."""

import time
from collections.abc import Callable
from itertools import pairwise
from statistics import mean, stdev

WINDOW_S = 30.0
"""Seconds that the rate is measured over."""
LEAST_WINDOW_S = 2.0
LEAST_RUN_S = 10.0
"""Seconds before the time left is estimated."""
LEAST_MOVES = 8
STEADY = 2.0
"""Largest ratio of the rates in the two halves of the time so far."""
NUM_SPANS = 8
LARGEST_ERROR = 0.2
"""Largest relative standard error of the mean rate over `NUM_SPANS` spans of the time so far."""
MOST_SAMPLES = 512


class Pace:
    """The rate of work of a known amount, in any unit.

    Args:
        total: how much there is to do.
        clock: seconds.
    """

    def __init__(self, total: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.total = total
        self._clock = clock
        self._start_s = clock()
        self._samples: list[tuple[float, float]] = []

    @property
    def done(self) -> float:
        return self._samples[-1][1] if self._samples else 0.0

    def reach(self, done: float) -> None:
        """Set the amount done; it never decreases."""
        now = self._clock()
        done = min(max(done, self.done), self.total)
        if self._samples or done:  # time before the first move is start-up: imports, weights, a cluster
            self._samples.append((now, done))
        if len(self._samples) > MOST_SAMPLES:
            del self._samples[1:-2:2]

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return self._clock() - self._start_s

    def rate(self) -> float | None:
        """Units per second in the last `WINDOW_S`; None where too little time has passed since the first move."""
        if not self._samples:
            return None
        return self._rate_between(max(self._samples[0][0], self._clock() - WINDOW_S), self._clock())

    def left_s(self) -> float | None:
        """Seconds until all is done; None until they are known within about a factor of two: while few moves were
        seen, the rates so far scatter, or work goes much faster or slower than in the beginning."""
        if not self._samples or self.done >= self.total:
            return None
        first_s, now = self._samples[0][0], self._clock()
        num_moves = sum(later > earlier for (_, earlier), (_, later) in pairwise(self._samples))
        if now - first_s < LEAST_RUN_S or num_moves < LEAST_MOVES:
            return None
        edges = [self._done_at(first_s + (now - first_s) * span / NUM_SPANS) for span in range(NUM_SPANS + 1)]
        moved = [end - start for start, end in pairwise(edges)]
        before, since = sum(moved[: NUM_SPANS // 2]), sum(moved[NUM_SPANS // 2 :])
        scatters = stdev(moved) > LARGEST_ERROR * mean(moved) * NUM_SPANS**0.5
        if scatters or not before or not 1 / STEADY <= since / before <= STEADY:
            return None
        return (self.total - self.done) / since * (now - first_s) / 2

    def _rate_between(self, start_s: float, end_s: float) -> float | None:
        if end_s - start_s < LEAST_WINDOW_S:
            return None
        return (self._done_at(end_s) - self._done_at(start_s)) / (end_s - start_s)

    def _done_at(self, moment_s: float) -> float:
        """The amount done at that time, interpolated linearly."""
        for (t0, d0), (t1, d1) in pairwise(self._samples):
            if t0 <= moment_s <= t1:
                return d0 + (d1 - d0) * (moment_s - t0) / (t1 - t0) if t1 > t0 else d1
        return self._samples[-1][1] if moment_s > self._samples[-1][0] else self._samples[0][1]
