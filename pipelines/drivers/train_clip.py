"""A captioned dataset → a CLIP that is fitted to it. The driver behind `reelpack train-clip DATASET --out FOLDER`."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch.distributed as dist

from curate.dataset.dataset import Dataset
from curate.dataset.judged import HUMAN
from curate.schema import content_digest
from curate.storage.place import AnyPath, children, path_of
from curate.storage.publish import write_text
from pipelines.config import Config
from pipelines.console.progress import STEPS, Line, console, shown
from pipelines.same_run import check_same_run, write_settings
from train.clip.card import Facts, card
from train.clip.config import TrainClipConfig
from train.clip.export import CONFIG, export
from train.clip.loop import ClipRun, Row, num_steps
from train.clip.model import ClipModel
from train.clip.notes import notes_of
from train.clip.pairs import CaptionedClip, FrameReader, Pairs
from train.distributed.ranks import RankGrid, join_ranks
from train.estimate.memory import device_bytes, gib
from train.run.checkpoint import list_checkpoints
from train.run.commit import remove_left_over
from train.run.hold import hold_run, restarted_by_torchrun
from train.run.spool import Spool

MODEL = "model"
MAY_CHANGE = {"device", "checkpoint", "num_decoders", "activation_checkpointing"}
"""Settings of a run that a resumed one may have otherwise: what is learned does not depend on them."""
NUM_SAMPLED = 500
"""Texts among which those that are longer than the model's context are counted."""
LOG_EVERY_S = 20
"""Seconds between lines about the vectors of clips."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipSummary:
    """A trained model.

    Attributes:
        model: Folder that open_clip loads by `local-dir:`.
        facts: What its card tells.
        rows: Metrics of the whole run.
        notes: What a reader must know.
    """

    model: AnyPath
    facts: Facts
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    @property
    def encoder(self) -> str:
        """Settings of the model as an encoder; from a store it is copied to each machine that uses it."""
        folder = self.model.absolute() if isinstance(self.model, Path) else "COPY_OF_" + self.model.name
        return f'{{kind: open_clip, model: "local-dir:{folder}"}}'


def train_clip(dataset: str, out: str | AnyPath, config: Config) -> ClipSummary:
    """Train; a run that was stopped resumes from its last checkpoint. Under torchrun every rank calls it.

    Raises:
        ValueError: a dataset without shards or captions, too few pairs for a batch, a batch that the ranks cannot
            share, a model that cannot be loaded or trained so, another process trains in `out`, or `out` holds a run
            with other settings or data.
    """
    settings, out = config.train_clip, path_of(out)
    is_restart = dist.is_initialized() or restarted_by_torchrun()
    data = Dataset(dataset)
    pairs = Pairs(read_clips(data), settings.levels)
    steps = num_steps(settings, pairs)
    with join_ranks(settings.device) as ranks:
        if settings.batch_size % ranks.world_size:
            raise ValueError(
                f"{ranks.world_size} ranks cannot share a batch of {settings.batch_size} pairs evenly; set "
                "train_clip.batch_size to a multiple of the ranks"
            )
        with hold_run(out, ranks, is_restart=is_restart) as lease:
            encoder = settings.init.encoder(str(ranks.device)).build()
            identity = {
                "train_clip": settings.model_dump(mode="json", exclude={"init"}),
                "model": encoder.fingerprint,
                "data": pairs.key,
            }
            check_same_run(out, identity, "train_clip", MAY_CHANGE, begun=bool(list_checkpoints(out / "checkpoints")))
            model = ClipModel(settings, ranks.device)
            if ranks.is_main:
                remove_left_over(out)
                write_settings(out, identity, dataset, len(pairs.train))
                say_before(settings, pairs, model, steps)
            ranks.barrier()
            with _lines(steps, ranks) as (on_row, on_part), Spool(out, writes=ranks.is_main) as spool:
                run = ClipRun(out, settings, model, pairs, ranks, spool, lease=lease, on_row=on_row)
                depends = (encoder.fingerprint, pairs.key, settings.num_frames, settings.short_side_px, model.dtype)
                vectors = out / "vectors" / content_digest("clip vectors", *map(str, depends))[:16]
                frames = FrameReader(data.layout.shards, settings.num_frames, settings.short_side_px)
                rows = run.train(frames, vectors, on_part)
            return _finish(out, settings, data, pairs, model, rows, ranks)


def read_clips(dataset: Dataset) -> list[CaptionedClip]:
    """The index's clips with their texts.

    Raises:
        ValueError: there are none, or their shards are not there.
    """
    index = dataset.read_index()
    if not index.num_rows:
        raise ValueError(f"{dataset.url}: no clip is kept; `reelpack status {dataset.url}` says why")
    _check_shards(dataset, sorted(set(index["shard"].to_pylist())))
    texts: dict[str, dict[str, list[str]]] = {}
    for row in dataset.texts(index).to_pylist():
        texts.setdefault(row["clip_id"], {}).setdefault(row["level"], []).append(row["text"])
    columns = ["clip_id", "shard", "offset", "size", "digest"]
    return [
        CaptionedClip(
            **{name: row[name] for name in columns},
            texts={level: tuple(found) for level, found in texts.get(row["clip_id"], {}).items()},  # type: ignore[misc]
            is_held_out=row["split"] == "val",
        )
        for row in index.select([*columns, "split"]).to_pylist()
    ]


def _check_shards(dataset: Dataset, names: Sequence[str]) -> None:
    there = set(children(dataset.layout.shards))
    if missing := [name for name in names if name not in there]:
        raise ValueError(
            f"{dataset.layout.shards}: {len(missing)} of {len(names)} shards of the index are not there, such as "
            f"{missing[0]}; put them back, or `reelpack curate` the inputs into another dataset"
        )


def say_before(settings: TrainClipConfig, pairs: Pairs, model: ClipModel, steps: int) -> None:
    """What the run will take, before it starts."""
    size = min(settings.chunk_size or settings.batch_size, settings.batch_size)
    activations = size * model.activation_bytes(settings.num_frames)
    has = device_bytes(model.device)
    console.print(
        f"{len(pairs.train):,} pairs, {len(pairs.held_out):,} held out; {settings.epochs:g} epochs of "
        f"{pairs.steps_per_epoch(settings.batch_size):,} steps of {settings.batch_size} pairs: {steps:,} steps\n"
        f"memory of a rank: {gib(model.state_bytes)} of weights, gradients and optimizer, about {gib(activations)} of "
        f"activations of {size} pairs{'' if has is None else f'; the device has {gib(has)}'}",
        highlight=False,
        soft_wrap=True,
    )
    if has is not None and model.state_bytes + activations > has:
        console.print("that is likely too much: lower train_clip.chunk_size, which changes no result", soft_wrap=True)


@contextmanager
def _lines(steps: int, ranks: RankGrid) -> Iterator[tuple[Callable[[Row], None], Callable[[int, int], None]]]:
    """The progress lines of the first rank: the steps, and before them the parts of a locked tower's vectors."""
    if not ranks.is_main:
        yield lambda row: None, lambda done, total: None
        return
    line, told = Line("train", steps, steps, STEPS), time.monotonic()

    def on_row(row: Row) -> None:
        if "loss" in row:
            line.num_done = line.finished = row["step"]
            line.notes = (f"loss {row['loss']:.3f}", f"temperature {row['temperature']:.3f}")

    def on_part(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told > LOG_EVERY_S:
            told = time.monotonic()
            console.print(f"vectors of clips: part {done:,} of {total:,}", highlight=False)

    with shown(line, lambda: line.update({})):
        yield on_row, on_part


def _finish(
    out: AnyPath,
    settings: TrainClipConfig,
    data: Dataset,
    pairs: Pairs,
    model: ClipModel,
    rows: Sequence[Row],
    ranks: RankGrid,
) -> ClipSummary:
    texts = [text for clip in pairs.train for found in clip.texts.values() for text in found]
    sample = texts[:: max(1, len(texts) // NUM_SAMPLED)]
    share_cut = sum(map(model.is_cut, sample)) / len(sample)
    notes = tuple(notes_of(rows, share_cut, getattr(model.tokenizer, "context_length", None)))
    facts = facts_of(settings, data, pairs, model, sum("loss" in row for row in rows))
    folder = out / MODEL
    error: Exception | None = None
    if ranks.is_main:
        text = card(facts, settings, rows, notes)
        write_text(str(out / "README.md"), text)
        try:
            if not (folder / CONFIG).exists():
                export(model, folder, text)
        except (OSError, ValueError) as raised:
            error = raised
    ranks.raise_together(error)
    return ClipSummary(model=folder, facts=facts, rows=tuple(rows), notes=notes)


def facts_of(settings: TrainClipConfig, data: Dataset, pairs: Pairs, model: ClipModel, steps: int) -> Facts:
    counts: Counter[str] = Counter(
        level for clip in pairs.train for level, texts in clip.texts.items() if level in settings.levels for _ in texts
    )
    sizes = [(p.numel(), p.requires_grad) for p in model.net.parameters()]
    return Facts(
        name=_told(settings),
        num_weights=sum(size for size, _ in sizes),
        num_trained=sum(size for size, trains in sizes if trains),
        num_pairs=len(pairs.train),
        num_held_out=len(pairs.held_out),
        num_texts={level: counts[level] for level in settings.levels if counts[level]},
        captioners=tuple(name for name in data.current_captions if name != HUMAN or counts["human"]),
        steps=steps,
    )


def _told(settings: TrainClipConfig) -> str:
    """The model that a run begins with, in words that may leave this machine."""
    init, path = settings.init, settings.init.encoder(settings.device).build().local_path()
    if path is None:
        return " ".join(filter(None, (init.model.removeprefix("hf-hub:"), init.pretrained)))
    kind = "" if init.model.startswith("local-dir:") else f"{init.model} from "
    return f"{kind}the local checkpoint {path.name}"
