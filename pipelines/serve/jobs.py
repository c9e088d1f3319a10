"""What is to be generated, in order: one job runs at a time, others wait, each can be cancelled."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from typing import Any

from pipelines.generation.asked import Asked
from train.sampling.config import SampleConfig

MOST_WAITING = 32
KEPT = 12
"""Jobs that have ended and are still told of."""


class State(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_over(self) -> bool:
        return self in (State.DONE, State.FAILED, State.CANCELLED)


class Cancelled(Exception):
    """The job that runs was cancelled."""


@dataclass(kw_only=True, slots=True)
class Job:
    """Videos of one prompt, which differ in their seeds. The thread that generates writes to it; threads that answer
    cancel it (`Queue.cancel`)."""

    number: int
    asked: Sequence[Asked]
    config: SampleConfig
    notes: Sequence[str] = ()  # what the user may not have meant
    state: State = State.WAITING
    share: float = 0.0
    began_s: float | None = None
    message: str = ""
    files: list[str] = field(default_factory=list)
    is_cancelled: bool = False

    def progress(self, share: float) -> None:
        """Raises Cancelled where someone cancelled it."""
        if self.is_cancelled:
            raise Cancelled
        self.share = share

    def shown(self) -> dict[str, Any]:
        """For the page."""
        return {
            "number": self.number,
            "state": self.state,
            "share": self.share,
            "seconds": None if self.began_s is None else time.monotonic() - self.began_s,
            "prompt": self.asked[0].prompt,
            "seeds": [one.seed for one in self.asked],
            "message": self.message,
            "notes": list(self.notes),
            "files": list(self.files),
            "cancelling": self.is_cancelled and not self.state.is_over,
        }


class Queue:
    """Shared by the threads that answer and the one that generates."""

    def __init__(self) -> None:
        self._jobs: list[Job] = []
        self._changed = threading.Condition()
        self._numbers = count(1)

    def add(self, asked: Sequence[Asked], config: SampleConfig, notes: Sequence[str] = ()) -> Job:
        """Raises ValueError where too many wait."""
        with self._changed:
            if sum(job.state is State.WAITING for job in self._jobs) >= MOST_WAITING:
                raise ValueError(f"{MOST_WAITING} generations wait already; cancel some, or come back later")
            job = Job(number=next(self._numbers), asked=asked, config=config, notes=notes)
            self._jobs.append(job)
            self._changed.notify_all()
            return job

    def next(self) -> Job:
        """The job that is to run now; waits for one."""
        with self._changed:
            while (job := next((one for one in self._jobs if one.state is State.WAITING), None)) is None:
                self._changed.wait()
            job.state, job.began_s = State.RUNNING, time.monotonic()
            return job

    def end(self, job: Job, state: State, message: str = "") -> None:
        with self._changed:
            job.state, job.message = state, message
            self._forget_old()

    def cancel(self, number: int) -> bool:
        """Whether there is such a job that waits or runs; one that runs ends at its next step."""
        with self._changed:
            job = next((one for one in self._jobs if one.number == number and not one.state.is_over), None)
            if job is None:
                return False
            job.is_cancelled = True
            if job.state is State.WAITING:
                job.state = State.CANCELLED
                self._forget_old()
            return True

    def shown(self) -> list[dict[str, Any]]:
        """For the page, in order."""
        with self._changed:
            return [job.shown() for job in self._jobs]

    def _forget_old(self) -> None:
        over = [job for job in self._jobs if job.state.is_over]
        for old in over[:-KEPT]:
            self._jobs.remove(old)
