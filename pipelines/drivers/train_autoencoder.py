"""Clips → a video autoencoder. The driver behind `reelpack train-autoencoder`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from curate.dataset.dataset import Dataset
from curate.encoders import weights
from curate.report.autoencoder import build_autoencoder_report
from curate.storage.place import AnyPath, path_of
from pipelines.config import Config
from pipelines.console.progress import STEPS, Line, console, shown
from pipelines.execute.ray_train import Workers, run_workers
from pipelines.monitor.metrics import Sink, TrainMetrics
from pipelines.run_report import reported
from pipelines.same_run import check_same_run, write_settings
from train.autoencoder.own import weights_of
from train.autoencoder.super_resolution.config import TrainSuperResolutionConfig
from train.autoencoder.super_resolution.trained import TrainedSuperResolution
from train.autoencoder.temporal_decoder.trained import TrainedTemporalDecoder
from train.autoencoder.training.base import TrainedAutoencoder
from train.autoencoder.training.clips import ClipSource
from train.autoencoder.training.config import TrainAutoencoderConfig
from train.autoencoder.training.loop import AutoencoderRun, Row
from train.autoencoder.training.own_network import OwnNetwork
from train.autoencoder.training.sources import FilmClips, ShardClips, cache_frames
from train.autoencoder.weights_folder import load
from train.distributed.ranks import RankGrid, join_ranks
from train.run.checkpoint import list_checkpoints
from train.run.commit import remove_left_over
from train.run.hold import hold_run, restarted_by_torchrun
from train.run.spool import Spool

FILM = "bbb-film"
"""The asset that the embedded autoencoder is trained on; as a dataset it names it."""
MAY_CHANGE = {"device", "checkpoint", "held_out", "parallel"}
"""Settings of a run that a resumed one may have otherwise: what is learned does not depend on them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoencoderSummary:
    """A trained autoencoder.

    Attributes:
        weights: Folder that `encode.autoencoder`, or `sample.super_resolution`, takes, by `setting`.
        setting: As `--set` takes it, quoted for a shell.
        num_weights: Of the network.
        num_clips, num_held_out: That it was trained and measured on.
        rows: Metrics of the whole run.
    """

    weights: AnyPath
    setting: str
    num_weights: int
    num_clips: int
    num_held_out: int
    rows: tuple[Row, ...]


def train_autoencoder(
    dataset: str, out: str | AnyPath, config: Config, sinks: Sequence[Sink] = ()
) -> AutoencoderSummary:
    """Train; a run that was stopped resumes from its last checkpoint. Under torchrun every rank calls it.

    Args:
        dataset: a dataset directory, or `bbb-film`, the film of the embedded models.
        out: the run's folder.
        config: with the section `train_autoencoder`.
        sinks: where metrics go.

    Raises:
        ValueError: a dataset without clips of the train split, weights that do not fit the network, another process
            trains in `out`, or `out` holds a run with other settings or data.
    """
    settings, out = config.train_autoencoder, path_of(out)
    is_restart = dist.is_initialized() or restarted_by_torchrun()
    with join_ranks(settings.device) as ranks, hold_run(out, ranks, is_restart=is_restart) as lease:
        source = _source(dataset, out, settings, ranks)
        begun = bool(list_checkpoints(out / "checkpoints"))
        model = _model(settings, ranks, is_begun=begun)
        identity = {"train_autoencoder": settings.model_dump(mode="json"), "data": source.key}
        if isinstance(model, TrainedTemporalDecoder | TrainedSuperResolution):
            identity["base"] = model.base.fingerprint
        check_same_run(out, identity, "train_autoencoder", MAY_CHANGE, begun=begun)
        num_weights = sum(p.numel() for p in model.parameters())
        if ranks.is_main:
            remove_left_over(out)
            write_settings(out, identity, None if dataset == FILM else dataset, len(source.train))
            _say_before(source, num_weights, settings)
        ranks.barrier()
        metrics = TrainMetrics(sinks, str(out))
        with (
            reported(str(out), build_autoencoder_report) as report,
            Spool(out, writes=ranks.is_main) as spool,
            _line(settings.steps, ranks, metrics.count, report) as on_row,
        ):
            run = AutoencoderRun(out, settings, model, source, ranks, spool, lease=lease, on_row=on_row)
            rows = run.train()
    named = f"encode.autoencoder.path={out / 'weights'}"
    if settings.temporal_decoder is not None:
        named = f"'encode.autoencoder={{kind: temporal_decoder, path: {out / 'weights'}}}'"
    if settings.super_resolution is not None:
        named = f"sample.super_resolution={out / 'weights'}"
    return AutoencoderSummary(
        weights=out / "weights",
        setting=named,
        num_weights=num_weights,
        num_clips=len(source.train),
        num_held_out=len(source.held_out),
        rows=tuple(rows),
    )


def train_on_ray(
    dataset: str, out: str, config: Config, *, workers: Workers, gpu: bool, max_failures: int = 3
) -> AnyPath:
    """Train on Ray Train workers, each with batches of its own; when one is lost, the run resumes from its last
    checkpoint.

    Args:
        dataset: on storage that every worker sees, as is `out`.
        out: folder of the run.
        config: with the section `train_autoencoder`.
        workers: how many, or the least and the most.
        gpu: one for each worker.
        max_failures: lost workers until the run ends with an error.

    Returns:
        Folder of the weights.
    """

    def work(settings: dict[str, Any]) -> None:
        from pipelines.monitor.on_ray import RaySink

        train_autoencoder(dataset, out, Config.model_validate(settings), (RaySink(),))

    run_workers(work, config, out, workers=workers, gpu=gpu, max_failures=max_failures)
    return path_of(out) / "weights"


def _source(dataset: str, out: AnyPath, settings: TrainAutoencoderConfig, ranks: RankGrid) -> ClipSource:
    if dataset == FILM:
        return _film(out, settings, ranks)
    data = Dataset(dataset)
    source = ShardClips(data.read_index().to_pylist(), data.layout.shards)
    if not source.train:
        raise ValueError(f"{data.url}: no clip of the train split is kept; `reelpack status {data.url}` says why")
    return source


def _film(out: AnyPath, settings: TrainAutoencoderConfig, ranks: RankGrid) -> FilmClips:
    """Its frames are kept beside the run: they are decoded once."""
    if not isinstance(out, Path):
        raise ValueError(f"--out {out}: the film's frames are mapped from a folder of this machine; expected one")
    cache = out / "frames.npy"
    if ranks.is_main and not cache.exists():
        from curate.media.frames import iter_frames

        out.mkdir(parents=True, exist_ok=True)
        weights.fetch([FILM], progress=lambda line: console.print(line, highlight=False))
        film = str(weights.resolve(FILM))
        cache_frames((frame.rgb for frame in iter_frames(film, short_side_px=settings.clips.decoded_px)), cache)
    ranks.barrier()
    return FilmClips(cache_frames((), cache))


def _model(settings: TrainAutoencoderConfig, ranks: RankGrid, *, is_begun: bool) -> TrainedAutoencoder:
    """The network as a run begins: weights are a function of the seed, or those of `init`. Where it has begun, a
    checkpoint has them."""
    if settings.temporal_decoder is not None or settings.super_resolution is not None:
        return _behind_a_base(settings, ranks)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = OwnNetwork(settings.network)
    if settings.init is not None and not is_begun:
        try:
            new = model.begin_with(load(weights_of(settings.init))[0])
        except ValueError as error:
            raise ValueError(f"train_autoencoder.init={settings.init}: {error}") from error
        if new and ranks.is_main:
            _say(f"{settings.init} has another bottleneck: {', '.join(new)} begin with random weights")
    return model


def _behind_a_base(
    settings: TrainAutoencoderConfig, ranks: RankGrid
) -> TrainedTemporalDecoder | TrainedSuperResolution:
    """Its base as it is, and layers whose weights are a function of the seed."""
    own = settings.temporal_decoder or settings.super_resolution
    assert own is not None
    base = own.base.model_copy(update={"device": "auto"}).build(ranks.device)
    model: TrainedTemporalDecoder | TrainedSuperResolution
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        if isinstance(own, TrainSuperResolutionConfig):
            model = TrainedSuperResolution(own, base)
        else:
            model = TrainedTemporalDecoder(own, base)
    try:
        settings.check_samples(model.temporal_stride, model.spatial_stride)
    except ValueError as error:
        raise ValueError(f"train_autoencoder.{error} ({base.name})") from error
    return model


def _say_before(source: ClipSource, num_weights: int, settings: TrainAutoencoderConfig) -> None:
    _say(
        f"{len(source.train):,} clips, {len(source.held_out):,} held out; {num_weights:,} weights; {settings.steps:,} "
        f"steps of about {settings.clips.batch_px / 1e6:g} Mpx"
    )
    if not source.held_out:
        _say(
            "no clip is held out, so no reconstruction is measured; `reelpack curate` with --set "
            "select.split.val_fraction=0.1 holds some of its new clips out: those that are in shards keep their split"
        )


def _say(line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True, markup=False)


@contextmanager
def _line(steps: int, ranks: RankGrid, *further: Callable[[Row], None]) -> Iterator[Callable[[Row], None]]:
    """The progress line of the first rank; `further` are told its rows, too."""
    if not ranks.is_main:
        yield lambda row: None
        return
    line = Line("train", steps, steps, STEPS)

    def on_row(row: Row) -> None:
        for told in further:
            told(row)
        if "loss" in row:
            line.num_done = line.finished = row["step"]
            line.notes = (f"loss {row['loss']:.3f}", f"{row['psnr_db']:.1f} dB", *_usage(row))

    with shown(line, lambda: line.update({})):
        yield on_row


def _usage(row: Row) -> Sequence[str]:
    """Of a batch, which may have fewer positions than there are codes."""
    if "code_usage_limit" not in row:
        return ()
    return (f"{row['code_usage'] / row['code_usage_limit']:.0%} of the codes that a batch can use",)
