"""What a run takes of a device's memory: predicted before it starts, and said when it was not enough."""

import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from train.align.loss import Projector
from train.data.manifest import Manifest
from train.data.plan import PlanConfig
from train.finetune.adapt import adapt_narrow
from train.finetune.quantized import frozen_bytes, num_parameters
from train.model.base import Denoiser
from train.model.config import ModelConfig
from train.monitor.meter import peak_memory
from train.optim.optimizer import moment_bytes
from train.optim.trainable import trainable_parameters
from train.run.config import TrainConfig

logger = logging.getLogger(__name__)

STATE_BYTES = 12
"""Of a trainable parameter: weight, gradient and average, each float32. The optimizer's moments come on top."""


class OutOfMemory(RuntimeError):
    """The device cannot hold the run; says what was needed and which setting to lower."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryEstimate:
    """Of one rank.

    Attributes:
        num_parameters: Of the whole model.
        num_trainable: Of those, what trains.
        num_tokens: Of the largest pack.
        num_sharing: Ranks that share its tokens.
        state_bytes: Weights, gradients, optimizer and average.
        activation_bytes: About what the largest pack, or this rank's part of it, keeps for its backward pass.
        kernel_bytes: The most that attention's backward takes for a moment. What other kernels take, and what an
            allocator cannot use, comes on top.
    """

    num_parameters: int
    num_trainable: int
    num_tokens: int
    state_bytes: int
    activation_bytes: int
    kernel_bytes: int = 0
    num_sharing: int = 1

    @property
    def total_bytes(self) -> int:
        return self.state_bytes + self.activation_bytes + self.kernel_bytes

    def __str__(self) -> str:
        over = "" if self.num_sharing == 1 else f" over {self.num_sharing} ranks"
        trained = "" if self.num_trainable == self.num_parameters else f", of which {self.num_trainable:,} train"
        return (
            f"{gib(self.state_bytes)} of weights, gradients, optimizer and average ({self.num_parameters:,} "
            f"parameters{trained}), about {gib(self.activation_bytes)} of activations of a pack of "
            f"{self.num_tokens:,} tokens{over}, {gib(self.kernel_bytes)} of attention's backward"
        )


def estimate_memory(
    config: TrainConfig, model: Denoiser, num_tokens: int, num_ranks: int, dtype: torch.dtype
) -> MemoryEstimate:
    """Predict the memory of a rank.

    Args:
        config: of the run.
        model: its model, whose parameters are counted.
        num_tokens: of the largest pack.
        num_ranks: of the run. They share the state where the model is sharded, and tokens as `parallel.context` says.
        dtype: of activations.
    """
    trained = trainable_parameters(model)
    num_trainable = sum(p.numel() for p in trained.values())
    state_bytes = STATE_BYTES * num_trainable + moment_bytes(model, config.optimizer)
    state_bytes += frozen_bytes(model)
    own_tokens = -(-num_tokens // config.parallel.context)
    return MemoryEstimate(
        num_parameters=num_parameters(model),
        num_trainable=num_trainable,
        num_tokens=num_tokens,
        num_sharing=config.parallel.context,
        state_bytes=state_bytes // config.parallel.num_shards(num_ranks),
        activation_bytes=_aligned_bytes(model, config, own_tokens, dtype)
        + model.activation_bytes(
            own_tokens,
            dtype,
            config.objective.build().token_losses,
            config.parallel.activation_checkpoint_every,
            partial(adapt_narrow, config=config, trained=trained) if config.freezes else None,
        ),
        kernel_bytes=model.workspace_bytes(own_tokens, dtype),
    )


def _aligned_bytes(model: Denoiser, config: TrainConfig, num_tokens: int, dtype: torch.dtype) -> int:
    """What the projector of a run that aligns tokens keeps."""
    projector: Projector | None = getattr(model, "projector", None)
    return projector.activation_bytes(num_tokens, dtype) if projector and config.align.by_token else 0


def largest_pack(manifest: Manifest, plan: PlanConfig) -> int:
    """Tokens that the largest pack may have: the budget, or a sample above it in a pack of its own."""
    counts = manifest.num_tokens
    largest = plan.token_budget if plan.oversize == "crop" else max(plan.token_budget, int(counts.max(initial=0)))
    return min(largest, int(counts.sum()))


def device_bytes(device: torch.device) -> int | None:
    """Memory of a GPU; None of a CPU, which has what the system gives."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None


def least_sampling_bytes(
    model: ModelConfig, grid: Sequence[int], latent_values: int, pixels: int, num_branches: int
) -> int:
    """What sampling one video takes at the least: one layer's features of all tokens, and four copies of the latent,
    float32; on the way to the file its frames as float32 and as bytes."""
    features = model.values_per_token * math.prod(grid) * num_branches
    return int(4 * (features + 4 * latent_values)) + 3 * pixels * (4 + 1)


def machine_bytes() -> int:
    """Memory of this machine, or of the part of it that a control group leaves this process."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    given = limit.read_text().strip() if limit.is_file() else "max"
    return min(total, int(given)) if given.isdecimal() else total


def warn_if_too_large(config: TrainConfig, estimate: MemoryEstimate, total_bytes: int | None) -> None:
    """Say before the first step that the device is not expected to hold the run."""
    if total_bytes is not None and estimate.total_bytes > total_bytes:
        logger.warning(
            "the device has %s, and predicted are %s: it is likely to run out of memory. %s",
            gib(total_bytes),
            estimate,
            _remedies(config),
        )


@contextmanager
def oom_report(config: TrainConfig, estimate: Callable[[], MemoryEstimate], device: torch.device) -> Iterator[None]:
    """Out of memory in here is told with what was used and what to set; before, whether it is likely. The estimate
    takes as long as a few steps of a tiny model, so that on a CPU it is made where memory has run out.

    Raises:
        OutOfMemory: in place of torch's own error.
    """
    total = device_bytes(device)
    if total is not None:
        warn_if_too_large(config, estimate(), total)
    try:
        yield
    except torch.OutOfMemoryError as error:
        has = "" if total is None else f" of the {gib(total)} of {device}"
        reason = str(error).split(". ")[0]
        raise OutOfMemory(
            f"out of memory: {gib(peak_memory(device))}{has} were in use at most; predicted were {estimate()}. "
            f"{_remedies(config)} ({reason})"
        ) from error


def _remedies(config: TrainConfig) -> str:
    remedies = []
    if config.parallel.activation_checkpoint_every != 1:
        remedies.append("train.parallel.activation_checkpoint_every=1 keeps the activations of one block at a time")
    if config.parallel.mode == "ddp":
        remedies.append("train.parallel.mode=fsdp on several ranks divides weights, gradients and optimizer")
    with suppress(ValueError):
        config.model.check_context(more := 2 * config.parallel.context)
        remedies.append(f"train.parallel.context={more} lets {more} ranks share the tokens of a pack")
    budget = config.data.plan.token_budget
    remedies.append(f"train.data.plan.token_budget={budget // 2} makes packs half as large (and is another run)")
    return f"Set one of: {'; '.join(remedies)}"


def gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.2f} GiB"
