"""The stages of a run, one after the other: LLaVA's two (Liu et al. 2023, arXiv:2304.08485, section 4.2), DALL·E 3's
two tunings (Betker et al. 2023, section 2.1), or others of the same kind."""

import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from caption.finetune.base import Sample, TrainingData
from caption.finetune.checkpoint import Position, load, save
from caption.finetune.config import CaptionerTrainConfig, StageConfig
from caption.finetune.grounding import measure
from caption.finetune.learner import Learner
from curate.storage.publish import publish
from curate.threads import import_decoders

METRICS = "metrics.jsonl"
Row = dict[str, Any]
Objective = Callable[[Learner, Sequence[Sample]], torch.Tensor]
"""Sum of the losses of samples."""
NUM_AHEAD = 2
"""Batches that are loaded while the model works."""


class Run:
    """A run in a folder, which the caller holds a lease on.

    Args:
        out: the run's folder.
        config: its settings.
        learner: the model.
        data: what it is trained on.
        contrastive: the objective of that name, where a stage has it.
        num_threads: that load samples.
        on_row: called with each row of metrics, as it is written.
    """

    def __init__(
        self,
        out: Path,
        config: CaptionerTrainConfig,
        learner: Learner,
        data: TrainingData,
        *,
        contrastive: Objective | None = None,
        num_threads: int = 2,
        on_row: Callable[[Row], None] = lambda row: None,
    ) -> None:
        self.out, self.config, self.learner, self.data = out, config, learner, data
        self.on_row = on_row
        self._contrastive, self._num_threads = contrastive, num_threads
        self._num_rows = 0

    def train(self) -> list[Row]:
        """Train from the folder's checkpoint, or from the start; the rows of metrics of the whole run.

        Raises:
            ValueError: no clip has a text for the tasks of a stage, or the loss is no number.
        """
        for stage in self.config.stages:
            self.num_steps(stage)  # a stage without data is an error before an earlier one has run
        torch.manual_seed(self.config.seed)
        at, optimizer_state = load(self.out, self.learner)
        self._num_rows = at.num_rows
        rows = read_rows(self.out / METRICS)[: at.num_rows]
        with publish(str(self.out / METRICS)) as file:  # rows of steps that are done again
            file.writelines(json.dumps(row).encode() + b"\n" for row in rows)
        for number in range(at.stage, len(self.config.stages)):
            self._stage(number, at.step if number == at.stage else 0, optimizer_state)
            optimizer_state = None
        return read_rows(self.out / METRICS)

    def num_steps(self, stage: StageConfig) -> int:
        """Optimizer steps of a stage."""
        num_batches = self.data.num_batches(stage)
        return stage.steps or max(1, math.ceil((stage.epochs or 0) * num_batches / stage.accumulation))

    def _stage(self, number: int, first: int, optimizer_state: dict[str, Any] | None) -> None:
        stage = self.config.stages[number]
        steps = self.num_steps(stage)
        if first == 0:
            self._measure(number, "before")
        groups: list[dict[str, Any]] = [
            {"params": self.learner.weights(part), "lr": lr, "peak": lr, "part": part} for part, lr in stage.lr.items()
        ]
        optimizer = torch.optim.AdamW(groups, betas=(0.9, stage.beta2), weight_decay=stage.weight_decay)
        if optimizer_state is not None:
            optimizer.load_state_dict(optimizer_state)
        self.learner.train(stage.lr)
        batches = self.data.batches(stage, number, self.config.seed)
        batches = islice(batches, first * stage.accumulation, steps * stage.accumulation)
        loaded = loaded_batches(self.data, batches, self._num_threads)
        num_samples = 0
        for step in range(first, steps):
            num_samples += self._step(stage, step, steps, optimizer, list(islice(loaded, stage.accumulation)))
            is_due = (step + 1) % self.config.checkpoint_every == 0 and step + 1 < steps
            if is_due and num_samples:
                save(self.out, Position(stage=number, step=step + 1, num_rows=self._num_rows), self.learner, optimizer)
        if not num_samples and first == 0:
            raise ValueError(f"stage {stage.name}: no clip can be decoded; `reelpack verify DATASET` looks at them")
        self._measure(number, "after")
        save(self.out, Position(stage=number + 1, num_rows=self._num_rows), self.learner, None)

    def _step(
        self,
        stage: StageConfig,
        step: int,
        steps: int,
        optimizer: torch.optim.Optimizer,
        batches: Sequence[Sequence[Sample]],
    ) -> int:
        """One update; every token of its batches weighs the same. The number of samples."""
        start = time.monotonic()
        factor = lr_factor(step, steps, stage)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        optimizer.zero_grad()
        batches = [batch for batch in batches if batch]
        if not batches:
            return 0  # none of their clips can be decoded
        loss = 0.0
        if stage.objective == "contrastive":
            assert self._contrastive is not None
            weights = [1 / len(batches)] * len(batches)
            objective = self._contrastive
        else:
            num_tokens = [sum(len(self.learner.answer_ids(one.answer)) for one in batch) for batch in batches]
            weights = [1 / sum(num_tokens)] * len(batches)
            objective = answer_loss
        for batch, weight in zip(batches, weights, strict=True):
            part = objective(self.learner, batch) * weight
            part.backward()
            loss += part.item()
        if not math.isfinite(loss):
            raise ValueError(
                f"stage {stage.name}, step {step + 1}: the loss is {loss}. Lower the stage's lr and run again in "
                f"another --out; {self.out} holds the last checkpoint before this step"
            )
        if stage.clip_norm is not None:
            trained = [weight for group in optimizer.param_groups for weight in group["params"]]
            torch.nn.utils.clip_grad_norm_(trained, stage.clip_norm)
        optimizer.step()
        num_samples = sum(map(len, batches))
        self._write(
            {
                "stage": stage.name,
                "step": step + 1,
                "loss": loss,
                "lr_factor": factor,
                "samples": num_samples,
                "seconds": time.monotonic() - start,
            }
        )
        return num_samples

    def _measure(self, number: int, when: str) -> None:
        stage = self.config.stages[number]
        if not self.config.num_evaluated or stage.objective == "contrastive":
            return
        for found in measure(self.learner, self.data, stage, self.config.num_evaluated):
            self._write({"stage": stage.name, "when": when, **found.row()})

    def _write(self, row: Row) -> None:
        with (self.out / METRICS).open("a") as file:
            file.write(json.dumps(row) + "\n")
        self._num_rows += 1
        self.on_row(row)


def answer_loss(learner: Learner, samples: Sequence[Sample]) -> torch.Tensor:
    """Sum of the token losses of the answers."""
    token_losses, _ = learner.losses(samples)
    return token_losses.sum()


def lr_factor(step: int, steps: int, stage: StageConfig) -> float:
    """Share of the peak learning rate at a step from 0 on: linear warm-up, then the schedule."""
    warmup = round(stage.warmup * steps)
    if step < warmup:
        return (step + 1) / warmup
    if stage.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def loaded_batches(data: TrainingData, batches: Iterator[Sequence[Any]], num_threads: int) -> Iterator[list[Sample]]:
    """The samples of each batch, in order; the next ones are loaded meanwhile."""
    import_decoders()
    waiting: deque[Future[list[Sample]]] = deque()
    with ThreadPoolExecutor(num_threads, thread_name_prefix="samples") as pool:
        try:
            for batch in batches:
                waiting.append(pool.submit(data.load, batch))
                if len(waiting) > NUM_AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def read_rows(path: Path) -> list[Row]:
    """Rows of metrics; a line that a killed run left unfinished is left out."""
    rows = []
    for line in path.read_text().splitlines(keepends=True) if path.exists() else ():
        if line.endswith("\n"):
            rows.append(json.loads(line))
    return rows
