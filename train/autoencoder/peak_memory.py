"""How much memory a computation needs beyond what is held before it."""

from pathlib import Path
from types import TracebackType
from typing import Self

import torch

STATUS, PEAKS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Of what runs in `with`: allocated memory of a GPU, or resident memory of this process on a CPU.

    `bytes` is the peak less what was held at the beginning, weights among it; None where the system does not tell, as
    is so without Linux's /proc. Memory that earlier work left to the process is used again, and not counted.
    """

    def __init__(self, device: torch.device) -> None:
        self.bytes: int | None = None
        self._device = device

    def __enter__(self) -> Self:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            _forget_peak()
        self._before = self._held()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._device.type == "cuda":
            peak: int | None = torch.cuda.max_memory_allocated(self._device)
        else:
            peak = _resident("VmHWM")
        self.bytes = None if peak is None or self._before is None else max(0, peak - self._before)

    def _held(self) -> int | None:
        if self._device.type == "cuda":
            return torch.cuda.memory_allocated(self._device)
        return _resident("VmRSS")


def _forget_peak() -> None:
    """Linux: VmHWM becomes VmRSS."""
    try:
        PEAKS.write_text("5")
    except OSError:  # a container without it: the peak is then that of the process's life, at least as high
        return


def _resident(name: str) -> int | None:
    """A line of /proc/self/status, which is in KiB."""
    if not STATUS.is_file():
        return None
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines() if ":" in line)
    return int(lines[name].split()[0]) * 1024 if name in lines else None
