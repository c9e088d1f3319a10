"""Seconds of ways to do the same, fairly: all of them in turn, repeat by repeat, so that what slows the machine slows
each."""

import time
from collections.abc import Callable, Mapping
from statistics import median

import torch


def median_seconds(
    ways: Mapping[str, Callable[[], object]], device: torch.device, num_repeats: int
) -> dict[str, float]:
    """Median over the repeats of each way, after one round that warms up.

    On CPU these are CPU seconds of this process, which other work on the machine lengthens less: with one thread
    (`torch.set_num_threads`) they are wall-clock seconds of a free machine.
    """
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(num_repeats + 1):
        for name, way in ways.items():
            start = _now(device)
            way()
            if repeat:
                taken[name].append(_now(device) - start)
    return {name: median(times) for name, times in taken.items()}


def _now(device: torch.device) -> float:
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()
