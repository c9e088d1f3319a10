"""What a training run sees, pack by pack: a recorder, and the command `train` under it.

    python -m tests.support.seen RANKS DATASET --out RUN …     as `torchrun -m train DATASET --out RUN …`

A file `hold` in that folder holds a run back, so that it cannot end before it is killed: while it is there, no rank
begins a step after the number in it.

Each rank writes its own file in the folder that the environment names, one line per pack that its model was trained
on: step, rank, clips, and a digest of their latents, timesteps and noise. A killed process leaves the lines it has
written; a resumed run adds files. Two runs saw the same when these lines are equal, for any number of ranks.

The ranks fork from one process that has imported the trainer: torchrun imports it once per rank. One rank that fails
ends the others.
"""

import hashlib
import json
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from train.objective.config import FlowConfig
from train.objective.flow import RectifiedFlow
from train.packing.batch import PackedBatch
from train.run.checkpoint import list_checkpoints

FOLDER, RUN, PACKS = "REELPACK_SEEN", "REELPACK_SEEN_RUN", "REELPACK_SEEN_PACKS"
"""Environment of a process that records: where to, the run's folder, and packs per step."""


HOLD, HOLD_POLL_S = "hold", 0.02


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenPack:
    """A pack that a rank was trained on. `digests`: per clip, of its latent, timestep and noise."""

    step: int
    rank: int
    world_size: int
    digests: tuple[tuple[str, str], ...]


class RecordingFlow(RectifiedFlow):
    """Rectified flow that writes down what it is given to train on."""

    def __init__(self, config: FlowConfig) -> None:
        super().__init__(config)
        saved = list_checkpoints(Path(os.environ[RUN]) / "checkpoints")
        self.first_step = 1 + (int(saved[-1].name.removeprefix("step-")) if saved else 0)
        self.num_packs = 0
        self.hold = Path(os.environ[FOLDER]) / HOLD
        self.file = (Path(os.environ[FOLDER]) / f"{time.time_ns()}-{os.getpid()}.jsonl").open("w")

    def token_losses(self, model: nn.Module, batch: PackedBatch) -> Tensor:
        # Not while validating, and not what a run tries before its first step: packs of no clips.
        if torch.is_grad_enabled() and all(batch.clip_ids):
            rank, world_size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
            packs = len(range(rank, int(os.environ[PACKS]), world_size))  # of each step, on this rank
            step = self.first_step + self.num_packs // packs
            while step > held_at(self.hold):
                time.sleep(HOLD_POLL_S)
            row = {"step": step, "rank": rank, "world_size": world_size}
            self.file.write(json.dumps(row | {"digests": _digests(batch)}) + "\n")
            self.file.flush()
            self.num_packs += 1
        return super().token_losses(model, batch)


def held_at(hold: Path) -> float:
    """The last step that a run may begin; infinite where nothing holds it."""
    try:
        return int(hold.read_text())
    except FileNotFoundError:
        return math.inf


def _digests(batch: PackedBatch) -> list[tuple[str, str]]:
    parts = (x.cpu().split(batch.segments.lengths) for x in (batch.tokens, batch.noise))
    timesteps = batch.timesteps.cpu()
    return [
        (
            clip,
            hashlib.sha256(tokens.numpy().tobytes() + noise.numpy().tobytes() + t.numpy().tobytes()).hexdigest()[:16],
        )
        for clip, tokens, noise, t in zip(batch.clip_ids, *parts, timesteps, strict=True)
    ]


def record() -> None:
    """From here on, this process records what its rectified flow is trained on; the environment says where to."""
    FlowConfig.build = lambda config: RecordingFlow(config)  # type: ignore[method-assign, assignment]


def environment(folder: Path, run: Path, packs_per_step: int) -> dict[str, str]:
    """Of a process that records."""
    return {FOLDER: str(folder), RUN: str(run), PACKS: str(packs_per_step)}


def read(folder: Path) -> Iterator[SeenPack]:
    """All packs that any process saw, those of repeated steps too."""
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith("\n"):  # a kill may cut the last one short
                row: dict[str, Any] = json.loads(line)
                yield SeenPack(**row | {"digests": tuple(map(tuple, row["digests"]))})


def main() -> None:
    from pipelines.cli import main as reelpack

    num_ranks, arguments = int(sys.argv[1]), ["train", *sys.argv[2:]]
    record()
    if num_ranks == 1:
        reelpack(arguments)
    import pipelines.drivers.train  # noqa: F401  # what the command imports: once, before the ranks fork

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        shared = {"WORLD_SIZE": str(num_ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    ranks = set()
    for rank in range(num_ranks):
        child = os.fork()
        if not child:
            os.environ.update(shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
            reelpack(arguments)
        ranks.add(child)
    while ranks:
        child, status = os.wait()
        ranks.discard(child)
        if status:
            for other in ranks:
                os.kill(other, signal.SIGKILL)
            sys.exit(f"rank {child} ended with {os.waitstatus_to_exitcode(status)}")


if __name__ == "__main__":
    main()
