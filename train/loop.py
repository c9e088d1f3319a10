"""The training loop: planned packs in, a checkpointed model out.

A step is `packs_per_step` packs, dealt over the ranks, or over groups of ranks that share each pack. Its gradient is
that of one sum over all of them divided by a constant of the plan, so a sample weighs the same in any pack, in any
step and on any number of ranks.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from curate.media.prefetch import prefetch
from curate.storage.lease import Lease
from curate.storage.place import AnyPath, path_of
from train.align.base import Alignment
from train.data.check import check_data, check_positions, warn_of_islands
from train.data.generator import keyed_generator
from train.data.load import LoadedStep, PackLoader
from train.data.manifest import Manifest
from train.data.mix import read_datasets
from train.data.plan import Cursor
from train.distributed.parallelize import accumulate, clear_gradients, full_tensor, parallelize, reshard
from train.distributed.preempt import Preempted, stop_on_sigterm
from train.distributed.ranks import RankGrid, join_ranks, log_once
from train.estimate.blend import blend_of
from train.estimate.memory import MemoryEstimate, estimate_memory, largest_pack, oom_report
from train.estimate.scale import warn_of_scale
from train.evaluate.base import EvaluationContext, build_evaluators
from train.finetune.adapt import check_frozen_dtype
from train.finetune.base import base_record
from train.finetune.quantized import check_package as check_quantizes
from train.finetune.quantized import num_parameters
from train.model.base import Denoiser
from train.monitor.meter import ThroughputMonitor
from train.monitor.metrics import MetricsLog, TrainSummary, read_metrics
from train.optim.ema import EMA
from train.optim.optimizer import build_optimizer, check_package, learning_rate
from train.optim.trainable import trainable_parameters
from train.packing.batch import PackedBatch
from train.run.checkpoint import Checkpointer, RunState, list_checkpoints
from train.run.commit import remove_left_over
from train.run.config import TrainConfig
from train.run.encoders import check_autoencoder, check_pictures, check_text_encoder
from train.run.folder import RunRecord, activation_dtype, adapt_base, autocast, build_model, check_ranks
from train.run.hold import hold_run, restarted_by_torchrun
from train.run.init import check_latents
from train.run.resume import open_run
from train.run.spool import Spool

logger = logging.getLogger(__name__)

OnStep = Callable[[dict[str, Any]], None]


class TrainingDiverged(ValueError):
    """Too many steps in a row had a loss or a gradient that is no number."""


def train(
    config: TrainConfig,
    dataset: str | Sequence[str],
    out: str | Path,
    on_step: OnStep | None = None,
    on_start: Callable[[MemoryEstimate], None] | None = None,
) -> TrainSummary:
    """Train, or continue, the run in `out`.

    Args:
        config: the run.
        dataset: a dataset directory with latents and text embeddings, or several.
        out: the run's folder; if it has checkpoints of the same configuration, training continues from the newest.
        on_step: called on rank 0 with every row of `metrics.jsonl`.
        on_start: called on rank 0 with the memory that a rank will take, before anything is put on a device.

    Raises:
        ValueError: the dataset, the folder or the number of ranks does not fit the configuration.
        TrainingDiverged: more than `max_skipped_steps` non-finite steps in a row.
        OutOfMemory: on a CUDA device.
    """
    # A launcher that has opened the group, or torchrun, may have put this process in place of a lost one.
    is_restart = dist.is_initialized() or restarted_by_torchrun()
    with join_ranks(config.device, config.parallel.context) as ranks:
        check_ranks(config, ranks.world_size)
        with log_once(ranks):
            manifests = [
                read_datasets(dataset, split=split, data=config.data, model=config.model) for split in ("train", "val")
            ]
        check_data(manifests, config.model.patch, ranks)
        check_positions(manifests, config.model, config.data.plan)
        run = path_of(out)
        with hold_run(run, ranks, is_restart=is_restart) as lease:
            # What holds the process group is gone with the function's frame, before the group is.
            return _train(config, manifests, run, ranks, lease, on_step, on_start)


def _train(
    config: TrainConfig,
    manifests: Sequence[Manifest],
    out: AnyPath,
    ranks: RankGrid,
    lease: Lease | None,
    on_step: OnStep | None,
    on_start: Callable[[MemoryEstimate], None] | None,
) -> TrainSummary:
    """One rank's part in a run."""
    train_manifest, val_manifest = manifests
    if ranks.is_main:
        warn_of_islands(train_manifest, config.model)
        warn_of_scale(config, train_manifest)
    alignment = _build_alignment(config, train_manifest, ranks)
    if config.freezes and activation_dtype(config, ranks.device) is torch.float32:
        check_frozen_dtype(config)
    check_package(config.optimizer)
    check_quantizes(config.finetune.frozen_dtype)
    base = base_record(config.init) if config.freezes and config.init is not None else None
    record = RunRecord.of(train_manifest, None if alignment is None else alignment.target, base)
    open_run(out, config, record, write=ranks.is_main)
    if ranks.is_main:
        remove_left_over(out)
        if (blend := blend_of(config, train_manifest)) is not None:
            blend.write(out)
    ranks.barrier()
    model, dtype = build_model(config, record), activation_dtype(config, ranks.device)
    is_new = not list_checkpoints(out / "checkpoints")
    if config.init is not None and is_new and config.init_latents == "same":
        check_latents(config.init, record.latents)
        check_autoencoder(config.init, record.latents)
        if config.model.pictures is not None:
            check_pictures(config.init, record.latents)
    if config.init is not None and is_new and config.init_text == "same" and config.model.reads_captions:
        check_text_encoder(config.init, record.text)
    if config.init is not None and (is_new or config.freezes):
        adapt_base(model, config, config.init)
    if alignment is not None:
        model.add_module("projector", alignment.projector)  # trained and saved with the model
    num_tokens = largest_pack(train_manifest, config.data.plan)
    estimate = cache(partial(estimate_memory, config, model, num_tokens, ranks.world_size, dtype))
    if ranks.is_main and on_start is not None:
        on_start(estimate())
    with oom_report(config, estimate, ranks.device), Spool(out, writes=ranks.is_main) as spool:
        run = _Run(config, model, alignment, train_manifest, val_manifest, out, spool, ranks, lease, on_step)
        run.train()
        return run.summary()


def _build_alignment(config: TrainConfig, manifest: Manifest, ranks: RankGrid) -> Alignment | None:
    """What features are aligned to. What is wrong on one rank ends all of them."""
    if not config.align.weight:
        return None
    alignment, error = None, None
    try:
        width = config.model.feature_dim(config.align.block)
        alignment = config.align.build(
            manifest, width=width, patch=config.model.patch, seed=config.seed, device=ranks.device
        )
    except Exception as raised:
        error = raised
    ranks.raise_together(error)
    return alignment


class _Run:
    """The state of a run on one rank."""

    def __init__(
        self,
        config: TrainConfig,
        model: Denoiser,
        alignment: Alignment | None,
        train_manifest: Manifest,
        val_manifest: Manifest,
        out: AnyPath,
        spool: Spool,
        ranks: RankGrid,
        lease: Lease | None,
        on_step: OnStep | None,
    ) -> None:
        self.config, self.out, self.spool, self.ranks, self.on_step = config, out, spool, ranks, on_step
        self.train_manifest, self.val_manifest = train_manifest, val_manifest
        self.objective, self.alignment = config.objective.build(), alignment
        self.loader = PackLoader(
            train_manifest,
            self.objective,
            config.data,
            model=model.config,
            seed=config.seed,
            pin=ranks.device.type == "cuda",
            device=ranks.device,
            group=ranks.context_group,
            features=None if alignment is None else alignment.features,
        )
        self.evaluators = build_evaluators(
            config.evaluate,
            EvaluationContext(
                train=train_manifest,
                val=val_manifest,
                objective=self.objective,
                plan=config.data.plan,
                model=model.config,
                ranks=ranks,
                run=out.name,
                out=spool.folder,
            ),
        )
        dtype, sharded = activation_dtype(config, ranks.device), config.parallel.is_sharded
        self.model = model
        self.replica = parallelize(self.model, ranks, config.parallel, dtype)
        self.monitor = ThroughputMonitor(self.model, ranks, config.log, dtype, sharded=sharded)
        self.optimizer = build_optimizer(self.model, config.optimizer)
        self.ema = EMA(self.model, config.ema)
        self.checkpoints = out / "checkpoints"
        self.checkpointer = Checkpointer(
            self.checkpoints, self.model, self.ema, self.optimizer, ranks, config.checkpoint, lease
        )
        self.step, self.cursor = 0, Cursor()
        if saved := list_checkpoints(self.checkpoints):
            state = self.checkpointer.load(saved[-1])
            self.step, self.cursor = state.step, state.cursor
            logger.info("continuing %s after step %d", out, self.step)
        settings = config.model_dump(mode="json")
        self.log = MetricsLog(spool.folder, self.step, config.log, settings, out.name) if ranks.is_main else None
        self.skipped_in_a_row = 0

    def train(self) -> None:
        loaded_steps = prefetch(
            self.loader.steps(self.cursor, self.ranks.dp_rank, self.ranks.dp_size), self.config.data.prefetch_steps
        )
        begins_at = self.step
        with closing(loaded_steps), stop_on_sigterm() as stop:
            while self.step < self.config.steps:
                self.monitor.begin()
                loaded = self._load(loaded_steps)
                if self.step == begins_at:
                    self._warm_up(loaded)
                self.monitor.start()
                row = self._optimize(loaded)
                self.step, self.cursor = self.step + 1, loaded.next
                self._report({"step": self.step, **row, **self.monitor.end(loaded)})
                self._evaluate()
                stops = self.ranks.any(stop.is_set())
                with self.monitor.saving():
                    self.checkpointer.poll()
                    if stops or self.step % self.config.checkpoint.every == 0 or self.step == self.config.steps:
                        self.spool.sync()  # a checkpoint has the figures of its steps
                        self.checkpointer.save(RunState(step=self.step, cursor=self.cursor))
                if stops:
                    break
            self.checkpointer.finish()
        if self.log is not None:
            self.log.close()
        if self.step < self.config.steps:
            raise Preempted(f"told to stop: saved after step {self.step}; the same command resumes from there")

    def _load(self, loaded_steps: Iterator[LoadedStep]) -> LoadedStep:
        """The next step. What cannot be loaded on one rank ends all of them, where the others would wait for it.

        Raises:
            Exception: what loading raised here.
            ValueError: what it raised on another rank.
        """
        loaded, error = None, None
        try:
            loaded = next(loaded_steps)
        except Exception as raised:
            error = raised
        self.monitor.loaded()
        self.ranks.raise_together(error)
        assert loaded is not None
        return loaded

    def _warm_up(self, loaded: LoadedStep) -> None:
        """Compile blocks as they are evaluated, too: at the first validation, ranks would wait for the compilers of
        others."""
        if self.config.parallel.compile:
            with torch.no_grad(), autocast(self.config, self.ranks.device):
                self.objective.token_losses(self.model, loaded.batches[0].to(self.ranks.device))
            reshard(self.model)

    def _optimize(self, loaded: LoadedStep) -> dict[str, Any]:
        """One optimizer step; returns its metrics."""
        if self.config.drops_inputs:  # what is dropped is a function of the step, too
            torch.manual_seed(keyed_generator("dropout", self.config.seed, self.step, self.ranks.rank).initial_seed())
        lr = learning_rate(self.step, self.config.optimizer, self.config.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        count = self.objective.count(loaded.mean_samples, loaded.mean_tokens)
        totals = torch.zeros(2, device=self.ranks.device)  # of the objective's loss and of alignment's
        finite: list[tuple[tuple[str, ...], Tensor]] = []  # per pack: its clips, (S,) bool
        for i, batch in enumerate(loaded.batches):
            batch = batch.to(self.ranks.device)
            with (
                accumulate(self.replica, more_to_come=i + 1 < len(loaded.batches)),
                autocast(self.config, self.ranks.device),
            ):
                token_losses, alignment = self._losses(batch)  # (L,), scalar
                pack_loss = self.objective.loss_sum(token_losses, batch) / count
                alignment = alignment / loaded.mean_samples
            # Replicas average their gradients; the loss is a sum over ranks.
            ((pack_loss + alignment) * self.ranks.world_size).backward()
            totals += torch.stack([pack_loss.detach(), alignment.detach()])
            finite.append((batch.clip_ids, batch.segments.sum(token_losses.detach()).isfinite()))
        trained = trainable_parameters(self.model).values()
        norm = full_tensor(nn.utils.clip_grad_norm_(trained, self.config.optimizer.clip_norm))
        # Here the device is waited for: once in a step, not once in a pack.
        loss, aligned, grad_norm = torch.stack([*self.ranks.sum(totals), norm]).tolist()
        # What is logged is the mean of the step.
        loss *= count / self.objective.count(loaded.num_samples, loaded.num_tokens)
        aligned *= loaded.mean_samples / loaded.num_samples
        skipped = not (math.isfinite(loss) and math.isfinite(grad_norm))
        left_out: dict[str, Any] = {}
        if skipped:
            left_out = {"skipped_clips": self._skip(loaded, finite)}
        else:
            self.skipped_in_a_row = 0
            self.optimizer.step()
            self.ema.update(self.model, self.step)
        clear_gradients(self.replica, self.optimizer)
        plan = self.config.data.plan
        return {
            "loss": loss,
            "grad_norm": grad_norm,
            "lr": lr,
            "epoch": loaded.epoch,
            "samples": loaded.num_samples,
            "tokens": loaded.num_tokens,
            "token_efficiency": loaded.num_tokens / max(loaded.num_tokens, plan.token_budget * plan.packs_per_step),
            "skipped": skipped,
            **left_out,
            **({} if self.alignment is None else {"align_loss": aligned}),
        }

    def _losses(self, batch: PackedBatch) -> tuple[Tensor, Tensor]:
        """The objective's losses of tokens, (L,), and what is added to their sum for alignment."""
        if self.alignment is None:
            return self.objective.token_losses(self.replica, batch), torch.zeros((), device=self.ranks.device)
        return self.alignment.losses(self.replica, self.objective, batch)

    def _skip(self, loaded: LoadedStep, finite: Sequence[tuple[tuple[str, ...], Tensor]]) -> list[str]:
        """Count a step that is left out, and name the clips whose loss is no number.

        Every rank gets here together, as loss and gradient are sums over ranks.
        """
        self.skipped_in_a_row += 1
        bad_clips = [clip for clips, good in finite for clip, ok in zip(clips, good.tolist(), strict=True) if not ok]
        named = sorted({clip for clips in self.ranks.all_gather_object(bad_clips) for clip in clips})
        packed = [clip for batch in loaded.batches for clip in batch.clip_ids]
        clips = f"non-finite loss on {', '.join(named)}" if named else f"non-finite gradient, pack of {packed}"
        if self.ranks.is_main or not named:  # every rank knows the clips, but no rank the packs of others
            logger.warning("step %d skipped: %s", self.step + 1, clips)
        if self.skipped_in_a_row > self.config.max_skipped_steps:
            raise TrainingDiverged(
                f"step {self.step + 1}: {self.skipped_in_a_row} steps in a row had to be skipped ({clips}); look at "
                "these clips, or run the same command with a lower train.optimizer.lr: it resumes from the newest of "
                f"{self.checkpoints}; remove that one to resume from the one before"
            )
        return named

    def _evaluate(self) -> None:
        """Call the evaluators that are due, and log what they return."""
        row: dict[str, Any] = {"step": self.step}
        for name, evaluator in self.evaluators.items():
            if getattr(self.config.evaluate, name).is_due(self.step, self.config.steps):
                with autocast(self.config, self.ranks.device):
                    found = evaluator.evaluate(self.model, self.ema, self.step)
                row |= found.metrics
                for title, image in found.images.items():
                    if self.log is not None:
                        self.log.show(title, image, self.step)
        if len(row) > 1:
            self._report(row)

    def _report(self, row: dict[str, Any]) -> None:
        if self.log is not None:
            self.log.write(row)
            if "loss" in row:
                self.spool.sync_if_due()
            else:
                self.spool.sync()  # for the report, which is written now
            if self.on_step is not None:
                self.on_step(row)

    def summary(self) -> TrainSummary:
        """Summed up by the first rank alone: on the others its file may lag behind."""
        summary = None
        if self.ranks.is_main:
            summary = TrainSummary.of(
                read_metrics(self.spool.folder / "metrics.jsonl"),
                num_parameters=num_parameters(self.model),
                train_clips=len(self.train_manifest),
                val_clips=len(self.val_manifest),
                checkpoint=list_checkpoints(self.checkpoints)[-1],
            )
            summary.write(self.out / "summary.json")
        return self.ranks.all_gather_object(summary)[0]
