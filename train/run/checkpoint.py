"""Checkpoints: everything a run needs to continue as if it had not stopped, written while training continues.

    checkpoints/step-000100/.metadata  __0_0.distcp  …  state.json  checksums.json

torch.distributed.checkpoint: each rank copies its part to CPU memory and writes it in a thread of its own; a run may
be continued on another number of ranks. A checkpoint that is there is whole (`commit`). It is read where its bytes are
those that were written (`storage`). Noise, timesteps and captions are functions of epoch and clip, the learning rate
of the step: besides tensors, only the step and the cursor of the plan are stored.
"""

import json
import pickle
import re
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.distributed.tensor import DTensor

from curate.storage.lease import Lease
from curate.storage.place import AnyPath
from curate.storage.publish import write_text
from train.data.plan import Cursor
from train.distributed.parallelize import reshard
from train.distributed.ranks import RankGrid
from train.optim.ema import EMA
from train.optim.optimizer import AnyOptimizer, Optimizers
from train.optim.trainable import trainable_parameters
from train.run.commit import begin_folder, draft_of, is_published, publish_folder, remove_folder
from train.run.config import CheckpointConfig
from train.run.storage import HashingWriter, SafePlanner, SafeReader, damaged, newest_intact

_STEP = re.compile(r"step-(\d{6,})")
_UNREADABLE = (
    OSError,
    KeyError,
    TypeError,
    ValueError,
    RuntimeError,
    AttributeError,
    pickle.UnpicklingError,
    CheckpointException,
)
"""What a checkpoint of another model, or one that is none, can raise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunState:
    """How far a run is: steps done, and where in its plan the next one begins."""

    step: int
    cursor: Cursor


class Checkpointer:
    """Saves and restores a run; one per rank, and every method is called on all of them together.

    Args:
        root: folder of the checkpoints, on this machine or on a store that all ranks see.
        model: its trainable parameters, full or sharded, and its persistent buffers are saved.
        ema: their averages; None: there are none.
        optimizer: over the same parameters.
        ranks: this rank.
        config: which checkpoints stay.
        lease: on the run, if there is one: without it nothing is published.
    """

    def __init__(
        self,
        root: AnyPath,
        model: nn.Module,
        ema: EMA | None,
        optimizer: AnyOptimizer,
        ranks: RankGrid,
        config: CheckpointConfig,
        lease: Lease | None = None,
    ) -> None:
        self.root, self.config, self.lease = root, config, lease
        self.model, self.ema, self.optimizer, self.ranks = model, ema, optimizer, ranks
        self._optimizers = optimizer.members if isinstance(optimizer, Optimizers) else (optimizer,)
        self._group = dist.new_group(backend="gloo") if ranks.world_size > 1 else None
        self._pending: tuple[Future[Any], AnyPath] | None = None
        # On a GPU kept: to pin memory takes longer than to copy into it.
        self._stager = DefaultStager(staging_options(ranks.device)) if ranks.device.type == "cuda" else None

    def save(self, state: RunState) -> None:
        """Copy the state, and begin to write it; the one before is finished first.

        Raises:
            OSError: it, or the one before, cannot be written.
        """
        self.finish()
        folder = self.root / f"step-{state.step:06d}"
        if self.ranks.is_main:
            draft = begin_folder(folder)
            facts = {
                "step": state.step,
                "cursor": asdict(state.cursor),
                "world_size": self.ranks.world_size,
                "torch": torch.__version__,
            }
            write_text(str(draft / "state.json"), json.dumps(facts))
        self.ranks.barrier()
        stager = self._stager or DefaultStager(staging_options(self.ranks.device))
        with _quiet():
            future = dcp.async_save(
                self._own_part(),
                storage_writer=HashingWriter(draft_of(folder)),
                async_stager=stager,
                process_group=self._group,
                no_dist=self._group is None,
            )
        written = cast("Future[Any]", future)
        if stager is not self._stager:
            written.add_done_callback(lambda _: stager.close())
        self._pending = (written, folder)

    def poll(self) -> None:
        """Publish what has been written meanwhile, without waiting."""
        if self._pending is not None and self._pending[0].done():
            self._publish()

    def finish(self) -> None:
        """Wait until what was begun is written and published."""
        if self._pending is not None:
            self._publish()
        self.ranks.barrier()

    def _publish(self) -> None:
        """The first rank's part is done when the others' are: it writes the list of all of them last."""
        assert self._pending is not None
        future, folder = self._pending
        self._pending = None
        try:
            future.result()
        except (OSError, CheckpointException) as error:
            whole = list_checkpoints(self.root)
            where = f"resumes from {whole[-1].name}" if whole else "starts from step 0"
            raise OSError(
                f"{folder}: this checkpoint could not be written ({_reason(error)}); see to the disk, and run the "
                f"same command again: it {where}"
            ) from error
        if self.ranks.is_main:
            if self.lease is not None:
                self.lease.check()
            publish_folder(folder)
            for old in superseded(list_checkpoints(self.root), self.config):
                remove_folder(old)

    def load(self, folder: AnyPath) -> RunState:
        """Restore in place, on any number of ranks; returns how far the run was.

        Raises:
            ValueError: the checkpoint is incomplete, damaged, or of another model.
        """
        found = damaged(folder, self.ranks.rank, self.ranks.world_size)
        if problems := [problem for of_rank in self.ranks.all_gather_object(found) for problem in of_rank]:
            raise ValueError(self._refusal(folder, "; ".join(dict.fromkeys(problems))))
        try:
            facts = json.loads((folder / "state.json").read_text())
            state = RunState(step=int(facts["step"]), cursor=Cursor(**facts["cursor"]))
            tensors = self._tensors(rng=facts["world_size"] == self.ranks.world_size)
            with _quiet():
                dcp.load(
                    tensors,
                    storage_reader=_reader(folder),
                    planner=SafePlanner(),
                    process_group=self._group,
                    no_dist=self._group is None,
                )
        except _UNREADABLE as error:
            raise ValueError(self._refusal(folder, _reason(error))) from error
        settings = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        set_optimizer_state_dict(self.model, self._optimizers, tensors["optimizer"])
        for group, own in zip(self.optimizer.param_groups, settings, strict=True):
            group.update(own)  # the configuration's, which may have changed, not the checkpoint's
        if "rng" in tensors:
            torch.set_rng_state(tensors["rng"][f"cpu.{self.ranks.rank}"])
            if self.ranks.device.type == "cuda":
                torch.cuda.set_rng_state(tensors["rng"][f"cuda.{self.ranks.rank}"], self.ranks.device)
        return state

    def _refusal(self, folder: AnyPath, reason: str) -> str:
        """Why a checkpoint is not taken, and which one can be."""
        older = [path for path in list_checkpoints(self.root) if _step(path) < _step(folder)]
        whole = newest_intact(older) if self.ranks.is_main else None
        whole = self.ranks.all_gather_object(whole)[0]
        between = [path.name for path in older if whole is None or _step(path) > _step(whole)]
        start = "the first step (no whole one is before it)" if whole is None else f"{whole.name}, which is whole"
        return (
            f"{folder}: cannot continue from this checkpoint ({reason}); remove {' and '.join(['it', *between])} to "
            f"continue from {start}, or train into another folder"
        )

    def _own_part(self) -> dict[str, Any]:
        """What this rank copies and writes: of replicas the first has all, and the others their generators."""
        tensors = self._tensors(rng=True)
        is_sharded = any(isinstance(p, DTensor) for p in self.model.parameters())
        return tensors if is_sharded or self.ranks.is_main else {"rng": tensors["rng"]}

    def _tensors(self, *, rng: bool) -> dict[str, Any]:
        """The state as tensors of this rank; what is loaded goes into them, but for those of optimizer and generators,
        which are copies."""
        reshard(self.model)
        tensors: dict[str, Any] = {
            "model": {name: p.detach() for name, p in trainable_parameters(self.model).items()},
            "optimizer": get_optimizer_state_dict(self.model, self._optimizers),
        }
        if buffers := saved_buffers(self.model):
            tensors["buffers"] = buffers
        if self.ema is not None:
            tensors["ema"] = self.ema.state_dict()
        if rng:
            rank = self.ranks.rank
            tensors["rng"] = {f"cpu.{rank}": torch.get_rng_state()}
            if self.ranks.device.type == "cuda":
                tensors["rng"][f"cuda.{rank}"] = torch.cuda.get_rng_state(self.ranks.device)
        return tensors


def saved_buffers(model: nn.Module) -> dict[str, Tensor]:
    """What a model learns without gradients, such as a codebook: its persistent buffers by name."""
    kept = model.state_dict().keys()
    return {name: buffer for name, buffer in model.named_buffers() if name in kept}


def staging_options(device: torch.device) -> StagingOptions:
    """How the state is copied to the host before the next step changes it: from a GPU into pinned memory, all of it
    at once. Nothing is shared with another process."""
    from_gpu = device.type == "cuda"
    return StagingOptions(
        use_pinned_memory=from_gpu, use_shared_memory=False, use_async_staging=False, use_non_blocking_copy=from_gpu
    )


def load_weights(folder: AnyPath, weights: Literal["model", "ema"], model: nn.Module) -> None:
    """Fill the trainable parameters of a model, on this machine alone, with the weights of a checkpoint.

    Raises:
        ValueError: the checkpoint is incomplete, damaged, or of another model.
    """
    if problems := damaged(folder):
        whole = newest_intact(list_checkpoints(folder.parent))
        other = "another checkpoint" if whole is None else f"another checkpoint, such as {whole.name}"
        raise ValueError(f"{folder}: its weights cannot be read ({'; '.join(problems)}); use {other}")
    tensors: dict[str, Tensor] = {name: p.detach() for name, p in trainable_parameters(model).items()}
    try:
        with _quiet():
            dcp.load({weights: tensors}, storage_reader=_reader(folder), planner=SafePlanner(), no_dist=True)
    except _UNREADABLE as error:
        raise ValueError(f"{folder}: its weights cannot be read ({_reason(error)}); use another checkpoint") from error


def _reader(folder: AnyPath) -> SafeReader:
    """Whose list of tensors is one: torch would log the error's traceback, and look for another list."""
    reader = SafeReader(folder)
    reader.read_metadata()
    return reader


def list_checkpoints(root: AnyPath) -> list[AnyPath]:
    """Whole checkpoints below `root`, oldest first."""
    named = [(int(match[1]), path) for path in root.glob("step-*") if (match := _STEP.fullmatch(path.name))]
    return [path for _, path in sorted(named, key=lambda found: found[0]) if is_published(path)]


def superseded(checkpoints: Sequence[AnyPath], config: CheckpointConfig) -> list[AnyPath]:
    """Those that go, of all that there are, oldest first."""
    older = checkpoints[: -config.keep]
    return [path for path in older if not config.keep_every or _step(path) % config.keep_every]


def _step(checkpoint: AnyPath) -> int:
    return int(checkpoint.name.removeprefix("step-"))


def _reason(error: BaseException) -> str:
    """The first of the errors that torch.distributed.checkpoint collects from its ranks, in one line."""
    failures = getattr(error, "failures", None)
    if failures:
        error = next(iter(failures.values()))[0]
    return " ".join(f"{type(error).__name__}: {error}".split())


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch says of a single process, and of its own old interfaces."""
    # For good: the thread that writes says this, too, when the block is over.
    warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
