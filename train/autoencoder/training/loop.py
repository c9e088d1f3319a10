"""The training loop of autoencoders: clips in, weights with the statistics of their latents out."""

import copy
import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from curate.media.prefetch import prefetch
from curate.storage.lease import Lease
from curate.storage.place import AnyPath
from curate.threads import import_decoders
from train.autoencoder.training.adversary import Opponent
from train.autoencoder.training.base import LatentStatistics, TrainedAutoencoder
from train.autoencoder.training.clips import Batches, ClipSource
from train.autoencoder.training.collapse import CollapseWatch
from train.autoencoder.training.config import TrainAutoencoderConfig
from train.autoencoder.training.loss import ReconstructionLoss
from train.autoencoder.training.measure import held_out_clips, held_out_judges, measure, write_picture
from train.data.plan import Cursor
from train.distributed.parallelize import clear_gradients, full_tensor, parallelize, reshard
from train.distributed.preempt import Preempted, stop_on_sigterm
from train.distributed.ranks import RankGrid
from train.monitor.metrics import LogConfig, MetricsLog, read_metrics
from train.optim.ema import EMA
from train.optim.optimizer import build_optimizer, learning_rate
from train.run.checkpoint import Checkpointer, RunState, list_checkpoints
from train.run.spool import Spool

logger = logging.getLogger(__name__)
METRICS, SAMPLES = "metrics.jsonl", "samples"
Row = dict[str, Any]
STATISTICS = 10_000_000
"""The first of the steps whose batches are measured at the end."""


class AutoencoderRun:
    """A run in a folder, which the caller holds a lease on; every method is called on all ranks together.

    Args:
        out: the run's folder.
        config: its settings.
        model: the network, as it begins.
        source: what it is trained and measured on.
        ranks: this rank.
        spool: the run's files that grow.
        lease: on the run, of the first rank.
        on_row: called on the first rank with each row of metrics.
    """

    def __init__(
        self,
        out: AnyPath,
        config: TrainAutoencoderConfig,
        model: TrainedAutoencoder,
        source: ClipSource,
        ranks: RankGrid,
        spool: Spool,
        *,
        lease: Lease | None = None,
        on_row: Callable[[Row], None] = lambda row: None,
    ) -> None:
        self.out, self.config, self.model, self.source, self.ranks = out, config, model, source, ranks
        self.on_row, self._spool = on_row, spool
        is_sharded = ranks.world_size > 1 and config.parallel.is_sharded
        self._whole = copy.deepcopy(model) if is_sharded else None
        dtype = torch.bfloat16 if config.dtype == "bfloat16" else torch.float32
        # They are about the speed of 1 x 1 convolutions, and about operations in place, which no block has.
        warnings.filterwarnings("ignore", message=r"Grad strides do not match|FSDP2-wrapped module .* returned a view")
        self._replica = parallelize(model, ranks, config.parallel, dtype)
        self._cost = ReconstructionLoss(config.loss, ranks.device)
        self._opponent = Opponent.of(config, ranks)
        trained = model if self._opponent is None else nn.ModuleList([model, self._opponent.net])
        self._optimizer = build_optimizer(model, config.optimizer)
        if self._opponent is not None:
            self._optimizer.add_param_group({"params": [*self._opponent.net.parameters()], "weight_decay": 0.0})
        self._ema = EMA(model, config.ema)
        self._batches = Batches(source, config.clips, config.seed, ranks.dp_rank, ranks.dp_size)
        root = out / "checkpoints"
        self._checkpointer = Checkpointer(root, trained, self._ema, self._optimizer, ranks, config.checkpoint, lease)
        self.step = 0
        if saved := list_checkpoints(root):
            self.step = self._checkpointer.load(saved[-1]).step
            logger.info("continuing %s after step %d", out, self.step)
        settings = config.model_dump(mode="json")
        self._judges = held_out_judges(config, ranks.device) if ranks.is_main else None
        kept = self.step if saved else -1  # a row of step 0 is measured again
        self._log = MetricsLog(spool.folder, kept, LogConfig(), settings) if ranks.is_main else None
        self._held_out: list[np.ndarray] | None = None
        self._collapse = CollapseWatch()

    def train(self) -> list[Row]:
        """Train to the end, and write the weights to OUT/weights; the rows of metrics of the whole run.

        Raises:
            ValueError: a clip's bytes are not those that were written, no clip of a window can be decoded, or the loss
                is no number.
            Preempted: on SIGTERM, after a checkpoint.
        """
        import_decoders()
        with ThreadPoolExecutor(self.config.clips.num_decoders, thread_name_prefix="clips") as pool:
            batches = prefetch(self._batches.steps(self.step, pool), 1)
            with closing(batches), stop_on_sigterm() as stop:
                self._train(batches, stop.is_set)
            self._finish(pool)
        if self._log is not None:
            self._log.close()
        return read_metrics(self._spool.folder / METRICS)

    def _train(self, batches: Iterator[Tensor], is_told_to_stop: Callable[[], bool]) -> None:
        if self.step == 0 and self.model.measures_start:
            self._measure()
        while self.step < self.config.steps:
            start = time.monotonic()
            row = self._optimize(self.ranks.next_of(batches).to(self.ranks.device))
            self.step += 1
            row = {"step": self.step, **row, "seconds": time.monotonic() - start}
            self._write(row)
            self._collapse.see(row)
            self._measure()
            stops = self.ranks.any(is_told_to_stop())
            self._checkpointer.poll()
            if stops or self.step % self.config.checkpoint.every == 0 or self.step == self.config.steps:
                self._spool.sync()  # a checkpoint has the figures of its steps
                self._checkpointer.save(RunState(step=self.step, cursor=Cursor()))
            if stops:
                break
        self._checkpointer.finish()
        if self.step < self.config.steps:
            raise Preempted(f"told to stop: saved after step {self.step}; the same command resumes from there")

    def _optimize(self, video: Tensor) -> Row:
        """One step on (B, 3, T, H, W) in [-1, 1]; its metrics, those of losses averaged over the ranks."""
        config, lr = self.config, learning_rate(self.step, self.config.optimizer, self.config.steps)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        if self._opponent is not None:
            self._optimizer.param_groups[-1]["lr"] = self._opponent.net.config.lr
        noise = torch.Generator().manual_seed(
            (config.seed * 1_000_003 + self.step) * self.ranks.dp_size + self.ranks.dp_rank
        )
        with torch.autocast(video.device.type, torch.bfloat16, enabled=config.dtype == "bfloat16"):
            out, coded = self._replica(video, noise)
        reconstruction, figures = self._cost(out, video, noise)
        loss, of_opponent = reconstruction + coded.loss, dict[str, Tensor]()
        if self._opponent is not None and self._opponent.counts(self.step):
            (loss + self._opponent.told_apart(reconstruction, out, self.model.last_layer)).backward()
            of_opponent = self._opponent.oppose(video, out, config.optimizer.clip_norm)
        else:
            loss.backward()
            if self._opponent is not None:
                self._opponent.rest()
        norm = full_tensor(torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.optimizer.clip_norm))
        mse = (out.detach().clamp(-1, 1) - video).square().mean()
        row = self._mean({"loss": reconstruction.detach(), "mse": mse, **figures, **coded.metrics, **of_opponent})
        if not (math.isfinite(row["loss"]) and math.isfinite(float(norm))):
            raise ValueError(
                f"step {self.step + 1}: the loss is {row['loss']} and the norm of its gradient {float(norm)}. Lower "
                f"train_autoencoder.optimizer.lr ({config.optimizer.lr}) or set train_autoencoder.dtype=float32, and "
                f"train into another --out; {self.out} keeps its last checkpoint before this step"
            )
        self._optimizer.step()
        if self._opponent is not None and of_opponent:
            self._opponent.net.update(row["real_logit"], row["fake_logit"])
        if "code_usage" in row and self.model.num_codes is not None:
            row["code_usage_limit"] = min(1.0, coded.latent[:, 0].numel() / self.model.num_codes)
        self.model.after_step(coded, noise)
        self._ema.update(self.model, self.step)
        clear_gradients(self._replica, self._optimizer)
        row["psnr_db"] = 10.0 * math.log10(4.0 / max(row.pop("mse"), 1e-12))
        return {**row, "grad_norm": float(norm), "lr": lr, "frames": video.shape[0] * video.shape[2]}

    def _mean(self, figures: dict[str, Tensor]) -> Row:
        """Over the ranks."""
        values = self.ranks.sum(torch.stack([value.float() for value in figures.values()])) / self.ranks.dp_size
        return dict(zip(figures, values.tolist(), strict=True))

    def _measure(self) -> None:
        """A row of held-out clips, where it is due, of the first rank."""
        every = self.config.held_out.every
        if not every or (self.step % every and self.step != self.config.steps):
            return
        with self._averaged() as model:
            if self._log is None or self._judges is None:
                return
            if self._held_out is None:
                strides = {"temporal_stride": model.temporal_stride, "multiple": model.spatial_stride}
                self._held_out = held_out_clips(self.source, self.config.held_out, **strides)
            if self._held_out:
                found = measure(model, self._held_out, self._judges, self.config.held_out.num_shown)
                self._write({"step": self.step, "held_out": found.metrics})
                if found.picture is not None:
                    self._log.show("held out: source, reconstruction, error", found.picture, self.step)
                    write_picture(self._spool.folder / SAMPLES / f"held-out-{self.step:06d}.png", found.picture)

    def _finish(self, pool: ThreadPoolExecutor) -> None:
        """The averaged weights, with the mean and the deviation of their latents over training data."""
        with self._averaged() as model:
            statistics = self._statistics(model, pool)
            if self.ranks.is_main:
                model.save(self.out / "weights", statistics)
        self.ranks.barrier()

    @torch.no_grad()
    def _statistics(self, model: TrainedAutoencoder, pool: ThreadPoolExecutor) -> LatentStatistics:
        moments = torch.zeros(3, model.num_channels, dtype=torch.float64)
        for number in range(self.ranks.dp_rank, self.config.num_measured, self.ranks.dp_size):
            video = self._batches.batch(STATISTICS + number, pool).to(self.ranks.device)
            values = model.latent(video).double().transpose(0, 1).flatten(1).cpu()  # (C, n)
            count = torch.full((len(values),), float(values.shape[1]))
            moments += torch.stack([count, values.sum(1), values.square().sum(1)])
        counts, total, squares = self.ranks.sum(moments.to(self.ranks.device)).cpu()
        mean = total / counts
        std = (squares / counts - mean.square()).clamp(min=1e-12).sqrt()
        rounded = (tuple(round(value, 6) for value in values.tolist()) for values in (mean, std))
        return LatentStatistics(mean=next(rounded), std=next(rounded))

    @contextmanager
    def _averaged(self) -> Iterator[TrainedAutoencoder]:
        """The network with the averaged weights, whole on each rank."""
        if self._whole is None:
            with self._ema.applied_to(self.model):
                yield self.model
            return
        reshard(self.model)
        state = {name: full_tensor(self._ema.average.get(name, v)) for name, v in self.model.state_dict().items()}
        self._whole.load_state_dict(state)
        yield self._whole.to(self.ranks.device)
        self._whole.to("cpu")

    def _write(self, row: Row) -> None:
        if self._log is not None:
            self._log.write(row)
            self._spool.sync_if_due()
            self.on_row(row)
