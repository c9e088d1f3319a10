"""The training loop: pairs of clips and captions in, an open_clip model whose vectors match out."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np
import torch

from curate.media.prefetch import prefetch
from curate.storage.lease import Lease
from curate.storage.place import AnyPath
from curate.threads import import_decoders
from train.clip.config import TrainClipConfig
from train.clip.gradient import backward, gather
from train.clip.load import Loaded, PairLoader, embed
from train.clip.locked import locked_vectors
from train.clip.loss import loss_of, matching_bias
from train.clip.measure import measure
from train.clip.model import ClipModel
from train.clip.pairs import FrameReader, Pair, Pairs, shared
from train.data.plan import Cursor
from train.distributed.preempt import Preempted, stop_on_sigterm
from train.distributed.ranks import RankGrid
from train.monitor.metrics import LogConfig, MetricsLog, read_metrics
from train.optim.optimizer import learning_rate
from train.run.checkpoint import Checkpointer, RunState, list_checkpoints
from train.run.config import OptimizerConfig
from train.run.spool import Spool

logger = logging.getLogger(__name__)
METRICS = "metrics.jsonl"
Row = dict[str, Any]
Step = tuple[list[Loaded | None], np.ndarray]
"""A rank's part of a batch; which pairs of the batch are no negatives of each other, (B, B) bool."""


class ClipRun:
    """A run in a folder, which the caller holds a lease on; every method is called on all ranks together.

    Args:
        out: the run's folder.
        config: its settings.
        model: the model, as it begins.
        pairs: what it is trained and measured on.
        ranks: this rank.
        spool: the run's files that grow.
        lease: on the run, of the first rank.
        on_row: called on the first rank with each row of metrics.
    """

    def __init__(
        self,
        out: AnyPath,
        config: TrainClipConfig,
        model: ClipModel,
        pairs: Pairs,
        ranks: RankGrid,
        spool: Spool,
        *,
        lease: Lease | None = None,
        on_row: Callable[[Row], None] = lambda row: None,
    ) -> None:
        self.out, self.config, self.model, self.pairs, self.ranks = out, config, model, pairs, ranks
        self._spool = spool
        self.steps, self.on_row = num_steps(config, pairs), on_row
        self._at_once = config.chunk_size or config.batch_size
        self._schedule = OptimizerConfig(lr=1.0, warmup_steps=round(config.warmup * self.steps), schedule="cosine")
        self._optimizer = torch.optim.AdamW(model.parameter_groups(), betas=config.betas, fused=True)
        root = out / "checkpoints"
        self._checkpointer = Checkpointer(root, model.net, None, self._optimizer, ranks, config.checkpoint, lease)
        self.step = 0
        if saved := list_checkpoints(root):
            self.step = self._checkpointer.load(saved[-1]).step
            logger.info("continuing %s after step %d", out, self.step)
        settings = config.model_dump(mode="json")
        self._log = MetricsLog(spool.folder, self.step, LogConfig(), settings) if ranks.is_main else None

    def train(
        self, frames: FrameReader, vectors: AnyPath, on_part: Callable[[int, int], None] = lambda done, total: None
    ) -> list[Row]:
        """Train to the end; the rows of metrics of the whole run.

        Args:
            frames: reads the clips.
            vectors: folder of the clips' vectors, where the image tower is locked.
            on_part: see `locked_vectors`.

        Raises:
            ValueError: a clip's bytes are not those that were written, a batch cannot be decoded, or the loss is no
                number.
            Preempted: on SIGTERM, after a checkpoint.
        """
        import_decoders()
        with ThreadPoolExecutor(self.config.num_decoders, thread_name_prefix="clips") as pool:
            loader = PairLoader(self.model, frames, pool)
            if self.config.image == "locked":
                clips = [*self.pairs.train, *(pair.clip for pair in self._measured)]
                embed_part = partial(loader.vectors_of, at_once=self._at_once)
                loader.vectors = locked_vectors(clips, vectors, embed_part, self.ranks, on_part)
            if self.step == 0:
                self._measure(loader, "before")
                self._set_bias(loader)
            self._train(loader)
            self._measure(loader, "after")
        if self._log is not None:
            self._log.close()
        return read_metrics(self._spool.folder / METRICS)

    @property
    def _measured(self) -> list[Pair]:
        return self.pairs.measured(self.config.num_evaluated)

    def _train(self, loader: PairLoader) -> None:
        batches = prefetch(self._batches(loader, self.step), 1)
        with closing(batches), stop_on_sigterm() as stop:
            while self.step < self.steps:
                start = time.monotonic()
                row = self._optimize(*self.ranks.next_of(batches))
                self.step += 1
                self._write({"step": self.step, **row, "seconds": time.monotonic() - start})
                stops = self.ranks.any(stop.is_set())
                self._checkpointer.poll()
                if stops or self.step % self.config.checkpoint.every == 0 or self.step == self.steps:
                    self._spool.sync()  # a checkpoint has the figures of its steps
                    self._checkpointer.save(RunState(step=self.step, cursor=Cursor()))
                if stops:
                    break
            self._checkpointer.finish()
        if self.step < self.steps:
            raise Preempted(f"told to stop: saved after step {self.step}; the same command resumes from there")

    def _batches(self, loader: PairLoader, first: int) -> Iterator[Step]:
        """The steps from number `first` on."""
        size, per_epoch = self.config.batch_size, self.pairs.steps_per_epoch(self.config.batch_size)
        part = size // self.ranks.world_size
        own = slice(self.ranks.rank * part, (self.ranks.rank + 1) * part)
        for epoch in range(first // per_epoch, -(-self.steps // per_epoch)):
            batches = self.pairs.epoch(epoch, size, self.config.seed)
            for number, batch in enumerate(batches, epoch * per_epoch):
                if first <= number < self.steps:
                    yield loader.load(batch[own]), shared(batch)

    def _optimize(self, own: list[Loaded | None], not_negative: np.ndarray) -> Row:
        """One step; its metrics."""
        config, factor = self.config, learning_rate(self.step, self._schedule, self.steps)
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        self._optimizer.zero_grad()
        loss, num = backward(self.model, own, not_negative, loss_of(config.loss), self.ranks, config.chunk_size)
        weights = [weight for group in self._optimizer.param_groups for weight in group["params"]]
        norm = float(torch.nn.utils.clip_grad_norm_(weights, config.clip_norm))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise ValueError(
                f"step {self.step + 1}: the loss is {loss} and the norm of its gradient {norm}. Lower train_clip.lr "
                f"(it is {config.lr}) or set train_clip.dtype=float32, and train into another --out; {self.out} keeps "
                "its last checkpoint before this step"
            )
        self._optimizer.step()
        self.model.clip_scale()
        row = {"loss": loss, "grad_norm": norm, "lr": config.lr * factor, "pairs": num}
        row["not_negative"] = int(not_negative.sum()) - len(not_negative)
        row["temperature"] = math.exp(-self.model.log_scale.item())
        return row if self.model.bias is None else row | {"bias": self.model.bias.item()}

    @torch.no_grad()
    def _set_bias(self, loader: PairLoader) -> None:
        """A model that was not trained with the sigmoid loss begins with the bias that its vectors ask for."""
        if self.model.bias is None or self.model.had_bias:
            return
        own, _ = self.ranks.next_of(self._batches(loader, 0))
        pairs = [pair for pair in own if pair is not None]
        batch = gather(own, [embed(self.model, pairs)] if pairs else [], self.model.dim, self.ranks)
        self.model.net.logit_bias.fill_(matching_bias(batch.clips, batch.texts, self.model.log_scale))

    def _measure(self, loader: PairLoader, when: str) -> None:
        """A row of retrieval, unless it is there already."""
        is_there = any(row.get("when") == when for row in read_metrics(self._spool.folder / METRICS))
        if not self.ranks.any(is_there):
            found = measure(self.model, loader, self._measured, self.ranks, self._at_once)
            if found:
                self._write({"step": self.step, "when": when, **found})

    def _write(self, row: Row) -> None:
        if self._log is not None:
            self._log.write(row)
            self._spool.sync_if_due()
            self.on_row(row)


def num_steps(config: TrainClipConfig, pairs: Pairs) -> int:
    """Optimizer steps of a run.

    Raises:
        ValueError: there are too few pairs for a batch.
    """
    return max(1, round(config.epochs * pairs.steps_per_epoch(config.batch_size)))
