"""A stage that is easy to check and gets into any trouble it is told to. Workers of Ray import it from here."""

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from curate.media.counter import count_bytes
from curate.scan import ScanStage
from curate.schema import Failure, FailureKind
from tests.support.terminal import USE_TERMINAL


class Doubling:
    """Doubles numbers, except that `trouble` says what happens at some of them."""

    step = "double"

    def __init__(self, trouble: Mapping[int, str] | None = None, in_setup: str | None = None) -> None:
        self.trouble = dict(trouble or {})
        self.in_setup = in_setup

    def setup(self) -> None:
        if self.in_setup:
            TROUBLE[self.in_setup](1)

    def process(self, items: Sequence[int]) -> list[int | Failure]:
        for item in items:
            if item in self.trouble:
                TROUBLE[self.trouble[item]](len(items))
        return [2 * item for item in items]

    def give_up(self, item: int, kind: FailureKind, detail: str, attempts: int) -> Failure:
        return Failure(subject=str(item), step=self.step, kind=kind, detail=detail, attempts=attempts)


def _segfault(_: int) -> None:
    ctypes.string_at(0)


def _exit(_: int) -> None:
    os._exit(1)


def _hang(_: int) -> None:
    """In native code that keeps Python's lock, so that no other thread of Python runs."""
    ctypes.PyDLL(None).pause()


def _raise(_: int) -> None:
    raise TypeError("it cannot be doubled")


def _raise_in_company(num_items: int) -> None:
    if num_items > 1:
        raise RuntimeError("CUDA out of memory")


def _no_room(_: int) -> None:
    raise OSError(28, "No space left on device")


def _no_weights(_: int) -> None:
    raise ValueError("weights are not there")


def _slow(_: int) -> None:
    time.sleep(0.5)


def _lose_device(_: int) -> None:
    import torch

    raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered", 700)


TROUBLE: dict[str, Callable[[int], None]] = {
    "segfault": _segfault,
    "exit": _exit,
    "hang": _hang,
    "raise": _raise,
    "raise in company": _raise_in_company,
    "no room": _no_room,
    "no weights": _no_weights,
    "slow": _slow,
    "lose device": _lose_device,
}


class Reading:
    """Reads as many bytes as its item says: a third of them, and the others when `go` is there or returns."""

    step = "read"

    def __init__(self, go: Path | Callable[[], object]) -> None:
        self.go = go

    def setup(self) -> None:
        """Nothing."""

    def process(self, items: Sequence[int]) -> list[int]:
        for item in items:
            count_bytes(item // 3)
            if isinstance(self.go, Path):
                while not self.go.exists():
                    time.sleep(0.02)
            else:
                self.go()
            count_bytes(item - item // 3)
        return list(items)

    def give_up(self, item: int, kind: FailureKind, detail: str, attempts: int) -> Failure:
        return Failure(subject=str(item), step=self.step, kind=kind, detail=detail, attempts=attempts)


class ScanOnTerminal(ScanStage):
    """Has a child, as native libraries may have one, that uses the terminal where there is one."""

    def setup(self) -> None:
        subprocess.run([sys.executable, "-c", USE_TERMINAL], check=True)
