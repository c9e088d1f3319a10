"""What a step takes: seconds of work and of waiting, FLOPs, memory. Measured on every rank, told as one row.

A rank has done its part of a step when its last gradient is there; from then on it waits for the slowest one. With
replicas that moment is seen by a hook on the gradients, while the reduction of the others is under way. Sharded ranks
wait for each other in every block, and no single moment tells how long: their idle time is not measured.
"""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from train.data.load import LoadedStep
from train.distributed.ranks import RankGrid
from train.estimate.peak_flops import peak_flops
from train.model.base import Denoiser
from train.monitor.metrics import LogConfig
from train.optim.trainable import trainable_parameters

STATUS = Path("/proc/self/status")


class ThroughputMonitor:
    """Times the steps of one rank; `end` is called on all of them together.

    Args:
        model: its gradients are watched.
        ranks: this rank.
        config: a peak that is given there goes before the table of known devices.
        dtype: of the activations.
        sharded: the ranks wait for each other all the time.
    """

    def __init__(
        self, model: Denoiser, ranks: RankGrid, config: LogConfig, dtype: torch.dtype, *, sharded: bool
    ) -> None:
        self.ranks = ranks
        self.model = model
        given = None if config.peak_tflops is None else config.peak_tflops * 1e12
        self.peak = given or peak_flops(ranks.device, dtype)
        self._trained_share = trained_share(model)
        self.measures_idle = ranks.world_size > 1 and not sharded
        self._start, self._last_gradient = _Moment(ranks.device), _Moment(ranks.device)
        self._began = self._waited = self._stalled = 0.0
        if self.measures_idle:
            for parameter in trainable_parameters(model).values():
                parameter.register_post_accumulate_grad_hook(self._gradient_is_there)

    def begin(self) -> None:
        """A step begins: with waiting for its packs."""
        self._began = time.perf_counter()

    def loaded(self) -> None:
        """The packs of this rank are there."""
        self._waited = time.perf_counter() - self._began

    def start(self) -> None:
        """Those of all ranks are."""
        self._start.mark()

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Time in here is lost to a checkpoint; the next step tells it."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._stalled += time.perf_counter() - start

    def end(self, loaded: LoadedStep) -> dict[str, Any]:
        """A step is done, and the device with it: seconds and other figures of all ranks (see docs/training.md)."""
        settle(self.ranks.device)  # or what was launched last, the optimizer, were in no step's seconds
        seconds = time.perf_counter() - self._began
        worked = self._waited + self._last_gradient.since(self._start) if self.measures_idle else 0.0
        # The backward pass takes twice the forward's, or once without weights' gradients; self-conditioning adds a
        # forward pass.
        passes = 2 + self._trained_share
        flops = sum(
            (passes + (batch.self_conditioned is not None)) * self.model.flops(batch) for batch in loaded.batches
        )
        own = [seconds, worked, self._waited, self._stalled, peak_memory(self.ranks.device), flops]
        self._stalled = 0.0
        figures = self.ranks.all_gather(own)  # (ranks, 6)
        seconds, slowest, waited, stalled, memory, _ = figures.amax(0).tolist()
        work = figures[:, 1].mean().item()
        flops = figures[:, 5].sum().item() * self.ranks.dp_size / self.ranks.world_size  # of a shared pack, once
        idle = 0.0 if self.ranks.world_size == 1 else slowest - work if self.measures_idle else None
        return {
            "seconds": seconds,
            "tokens_per_s": loaded.num_tokens / seconds,
            "tflop": flops / 1e12,
            "mfu": flops / (seconds * self.ranks.world_size * self.peak) if self.peak else None,
            "rank_idle_s": idle,
            "loader_wait_s": waited,
            "checkpoint_stall_s": stalled,
            "memory_gib": memory / 2**30,
        }

    def _gradient_is_there(self, _: Tensor) -> None:
        self._last_gradient.mark()


def trained_share(model: nn.Module) -> float:
    """Of the weights of linear layers. The FLOPs of a step that go by it leave out half of attention's backward pass
    where all of the model is frozen."""
    layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
    trained = sum(m.in_features * m.out_features for m in layers if m.weight.requires_grad)
    total = sum(m.in_features * m.out_features for m in layers)
    return trained / total if total else 1.0


class _Moment:
    """When the work that was given to a device up to now is done."""

    def __init__(self, device: torch.device) -> None:
        self._event = torch.cuda.Event(enable_timing=True) if device.type == "cuda" else None
        self._time = 0.0

    def mark(self) -> None:
        if self._event is not None:
            self._event.record()
        self._time = time.perf_counter()

    def since(self, earlier: "_Moment") -> float:
        """Seconds; both moments have passed."""
        if self._event is not None and earlier._event is not None:
            return earlier._event.elapsed_time(self._event) / 1000
        return self._time - earlier._time


def settle(device: torch.device) -> None:
    """Wait until a device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(device: torch.device) -> int:
    """Bytes: the most that tensors took on a CUDA device so far, or that this process took of the machine's memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if STATUS.is_file():  # ru_maxrss would begin at the peak of the process that started this one
        lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines() if ":" in line)
        return int(lines["VmHWM"].split()[0]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
