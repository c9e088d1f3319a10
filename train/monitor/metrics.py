"""What a run says of itself: one JSON line per step and per validation, the same to TensorBoard (and to Weights &
Biases), and a summary."""

import json
import logging
import math
import os
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from curate.storage.place import AnyPath
from curate.storage.publish import write_text

logger = logging.getLogger(__name__)

NUM_AVERAGED_STEPS = 10
MEASURED = frozenset(
    {"seconds", "tokens_per_s", "mfu", "rank_idle_s", "loader_wait_s", "checkpoint_stall_s", "memory_gib"}
)
"""Figures of a step that are another in every run; all others are the same."""


class LogConfig(BaseModel):
    """Where the figures go, in addition to `metrics.jsonl` and TensorBoard."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    wandb: str | None = Field(None, description="project of Weights & Biases; none: nothing goes there")
    peak_tflops: float | None = Field(
        None, gt=0, description="what a device can do, in 10^12 per second, for MFU; none: by a table of known GPUs"
    )


class MetricsLog:
    """Appends to `metrics.jsonl` and to `tensorboard/`; drops the rows of steps that a resumed run does again.

    Args:
        out: folder of this machine.
        resumed_step: rows up to this one are kept.
        config: where else the figures go.
        settings: of the whole run, for Weights & Biases.
        name: of the run there.
    """

    def __init__(
        self, out: Path, resumed_step: int, config: LogConfig, settings: dict[str, Any], name: str | None = None
    ) -> None:
        self.path = out / "metrics.jsonl"
        kept = [row for row in read_metrics(self.path) if row["step"] <= resumed_step]
        temporary = self.path.with_name(f".{self.path.name}.tmp")  # a kill here must not cost the rows
        with temporary.open("w") as file:
            file.writelines(json.dumps(row) + "\n" for row in kept)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)
        self._file = self.path.open("a")
        self._board = _summary_writer(out / "tensorboard", resumed_step)
        self._wandb = None if config.wandb is None else _wandb_run(config.wandb, out, settings, name or out.name)

    def write(self, row: dict[str, Any]) -> None:
        self._file.write(json.dumps(_finite(row)) + "\n")
        self._file.flush()
        numbers = dict(_numbers(row))
        if self._board is not None:
            for name, value in numbers.items():
                self._board.add_scalar(name, value, row["step"])
        if self._wandb is not None:
            self._wandb.log({"step": row["step"], **numbers})

    def show(self, name: str, picture: np.ndarray, step: int) -> None:
        """A picture (H, W, 3) uint8, to TensorBoard and Weights & Biases."""
        if self._board is not None:
            self._board.add_image(name, picture, step, dataformats="HWC")
        if self._wandb is not None:
            import wandb

            self._wandb.log({"step": step, name: wandb.Image(picture)})

    def close(self) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()
        if self._wandb is not None:
            self._wandb.finish()


def _finite(value: Any) -> Any:
    """JSON has no NaN: what is no number is null."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _numbers(row: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a row by name, those of nested ones as `name/part`."""
    for name, value in row.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and prefix + name != "step":
            yield prefix + name, value


def _summary_writer(folder: Path, resumed_step: int) -> Any | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        logger.warning("no TensorBoard log (%s): `pip install 'reelpack[train]'` brings tensorboard", error)
        return None
    return SummaryWriter(str(folder), purge_step=resumed_step + 1)


def _wandb_run(project: str, out: Path, settings: dict[str, Any], title: str) -> Any:
    """The run's page at Weights & Biases; a run that continues, continues its page."""
    try:
        import wandb
    except ModuleNotFoundError as error:
        raise ValueError(
            f"train.log.wandb={project}: wandb is not installed ({error}); pip install 'reelpack[wandb]', or unset it"
        ) from error
    name = out / "wandb.id"
    if not name.exists():
        write_text(str(name), secrets.token_hex(8))
    run = wandb.init(project=project, id=name.read_text(), name=title, dir=str(out), resume="allow", config=settings)
    # Steps that a resumed run does again would be refused as W&B's own ones, which only grow.
    run.define_metric("*", step_metric="step")
    return run


def read_metrics(path: AnyPath) -> list[dict[str, Any]]:
    """Whole rows of `metrics.jsonl`; a last line that a kill cut short is left out."""
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainSummary:
    """A run in figures; `summary.json` holds the same. Losses of training are means over ten steps, or over half of a
    shorter run."""

    steps: int
    num_parameters: int
    train_clips: int
    val_clips: int
    train_loss_first: float
    train_loss_last: float
    evaluated_first: dict[str, Any]  # what evaluators returned, by name, when each was called first
    evaluated_last: dict[str, Any]  # and last
    tokens: int
    samples: int
    token_efficiency: float
    tokens_per_s: float
    mfu: float | None  # None without a device whose peak is known
    rank_idle: float | None  # share of the steps' time that ranks waited for the slowest; None: not measured
    loader_wait: float  # share of the steps' time
    checkpoint_stall_s: float  # the longest; what the last checkpoint takes is not in it, as no step follows
    memory_gib: float  # the most on any rank: of the device, on CPU of the process
    skipped_steps: int
    checkpoint: str

    @classmethod
    def of(
        cls, rows: list[dict[str, Any]], *, num_parameters: int, train_clips: int, val_clips: int, checkpoint: AnyPath
    ) -> "TrainSummary":
        """From the rows of `metrics.jsonl`, so a resumed run is summarized from its start."""
        steps = [row for row in rows if "loss" in row]
        finite = [row["loss"] for row in steps if not row["skipped"]]
        evaluated = [row for row in rows if "loss" not in row]
        averaged = min(NUM_AVERAGED_STEPS, max(1, len(finite) // 2))
        tokens = sum(row["tokens"] for row in steps)
        seconds = sum(row["seconds"] for row in steps)
        return cls(
            steps=steps[-1]["step"],
            num_parameters=num_parameters,
            train_clips=train_clips,
            val_clips=val_clips,
            train_loss_first=_mean(finite[:averaged]),
            train_loss_last=_mean(finite[-averaged:]),
            evaluated_first=_merged(reversed(evaluated)),
            evaluated_last=_merged(evaluated),
            tokens=tokens,
            samples=sum(row["samples"] for row in steps),
            token_efficiency=_mean([row["token_efficiency"] for row in steps]),
            tokens_per_s=tokens / seconds,
            mfu=_share([row | {"busy_s": row["mfu"] * row["seconds"]} for row in steps if row.get("mfu")], "busy_s"),
            rank_idle=_share(steps, "rank_idle_s"),
            loader_wait=_share(steps, "loader_wait_s") or 0.0,
            checkpoint_stall_s=max(row.get("checkpoint_stall_s", 0.0) for row in steps),
            memory_gib=max(row.get("memory_gib", 0.0) for row in steps),
            skipped_steps=sum(row["skipped"] for row in steps),
            checkpoint=str(checkpoint),
        )

    def write(self, path: AnyPath) -> None:
        write_text(str(path), json.dumps(asdict(self), indent=2) + "\n")


def _merged(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Each value by name, that of the latest row that has it."""
    merged = {name: value for row in rows for name, value in row.items()}
    merged.pop("step", None)
    return merged


def _share(steps: list[dict[str, Any]], name: str) -> float | None:
    """Of the seconds of the steps that have it, those that `name` counts."""
    having = [row for row in steps if row.get(name) is not None]
    return sum(row[name] for row in having) / sum(row["seconds"] for row in having) if having else None


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
