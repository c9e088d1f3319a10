"""A captioned dataset → a captioner. The driver behind `reelpack train-captioner DATASET --out FOLDER`."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from caption.config import CaptionConfig
from caption.finetune.base import TrainingData
from caption.finetune.checkpoint import FILE as CHECKPOINT
from caption.finetune.config import CaptionerTrainConfig, DatasetConfig, InstructionsConfig, Task
from caption.finetune.dataset import Clip, ClipData, Question
from caption.finetune.instructions import Instructions, make_instructions
from caption.finetune.learner import Learner
from caption.finetune.load import export, load_learner, resolved_model
from caption.finetune.loop import Objective, Row, Run
from caption.frames import FramesConfig, windows_of
from caption.prompts import PROMPT_SETS, Prompt
from curate.dataset.captions import CaptionLevel
from curate.dataset.dataset import Dataset
from curate.encoders import torchvision_cpu, weights
from curate.encoders.fingerprint import path_digest
from curate.report.captioner import build_captioner_report
from curate.storage.lease import hold
from pipelines.config import Config
from pipelines.console.progress import CLIPS, STEPS, Line, console, shown
from pipelines.same_run import check_same_run, write_settings

FILM = "bbb-film"
MODEL = "model"
ASKED_AS: Mapping[Task, CaptionLevel] = {"short": "short", "original": "short", "dense": "dense", "human": "dense"}
"""Level whose prompt asks for the texts of a task."""
MAY_CHANGE = {"device", "checkpoint_every", "gradient_checkpointing", "instructions"}
"""Settings of a run that a resumed one may have otherwise: what is learned does not depend on them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionerSummary:
    """A trained captioner.

    Attributes:
        model: Folder of its checkpoint, or, with data.kind=film, of the weights that `reelpack weights` puts in.
        rows: Metrics of the whole run.
        num_clips, num_held_out: Of the dataset; None with data.kind=film.
        rejected: Reason code → instructions that are not used.
        caption_command: What captions with it; None with data.kind=film.
        notes: What a reader must know.
    """

    model: Path
    rows: tuple[Row, ...]
    num_clips: int | None = None
    num_held_out: int | None = None
    rejected: Mapping[str, int]
    caption_command: str | None = None
    notes: tuple[str, ...] = ()


def train_captioner(dataset: str | None, out: Path, config: Config) -> CaptionerSummary:
    """Train a captioner; a run that was stopped resumes from its last checkpoint.

    Raises:
        ValueError: no dataset, one without texts for a stage, a model that cannot be loaded or has another shape,
            another process trains in `out`, or `out` holds a run with other settings or data.
        MissingWeights: the embedded captioner is not assembled.
    """
    settings = config.train_captioner
    if isinstance(settings.data, DatasetConfig) != (dataset is not None):
        given = "no dataset is given" if dataset is None else f"{dataset} is given"
        raise ValueError(f"train_captioner.data.kind={settings.data.kind}, and {given}; expected a dataset "
                         "with kind=dataset, and none with kind=film")  # fmt: skip
    torchvision_cpu.repair()
    with hold(out, "train"):
        if dataset is None:
            return _train_film(settings, out, config.caption)
        return _train(Dataset(dataset), settings, out, config.caption)


def _train(dataset: Dataset, settings: CaptionerTrainConfig, out: Path, caption: CaptionConfig) -> CaptionerSummary:
    settings = resolved_model(settings)
    assert isinstance(settings.data, DatasetConfig)
    frames = caption.frames.model_copy(update={"window_s": None})
    prompts = prompts_of(caption)
    rows = list(_clip_rows(dataset))
    made: list[Instructions] = []
    if settings.instructions is not None:
        made = _instructions(rows, settings.instructions, out, dataset.url)
    clips = _clips(rows, prompts, made)
    data = ClipData(clips, dataset.layout.shards, partial(frames_of, frames=frames))
    model = Path(settings.model)
    identity = {
        "train_captioner": settings.model_dump(mode="json", exclude={"model", "revision"}),
        "prompts": {level: prompt.id for level, prompt in prompts.items()},
        "frames": frames.model_dump(mode="json"),
        "data": data.key,
        "model": path_digest(model) if model.is_dir() else f"{settings.model}@{settings.revision}",
    }
    check_same_run(out, identity, "train_captioner", MAY_CHANGE, begun=(out / CHECKPOINT).exists())
    for stage in settings.stages:
        data.num_batches(stage)
    learner = load_learner(settings)
    write_settings(out, identity, dataset.url, sum(not clip.is_held_out for clip in clips))
    done = _run(out, settings, learner, data, num_threads=settings.data.num_decoders)
    folder = out / MODEL
    if not folder.is_dir():
        export(learner, settings, folder)
    num_held_out = sum(clip.is_held_out for clip in clips)
    return CaptionerSummary(
        model=folder,
        rows=tuple(done),
        num_clips=len(clips),
        num_held_out=num_held_out,
        rejected=_rejected(made),
        caption_command=_caption_command(dataset.url, folder, caption, frames),
        notes=tuple(_notes(done, num_held_out)),
    )


def _train_film(settings: CaptionerTrainConfig, out: Path, caption: CaptionConfig) -> CaptionerSummary:
    from caption.llava.film import contrastive, load_film, save_deltas

    weights.fetch([FILM], progress=lambda line: console.print(line, highlight=False))
    prompts = prompts_of(caption)
    identity = {
        "train_captioner": settings.model_dump(mode="json", exclude={"model", "revision"}),
        "prompts": {level: p.id for level, p in prompts.items()},
    }
    check_same_run(out, identity, "train_captioner", MAY_CHANGE, begun=(out / CHECKPOINT).exists())
    learner, film = load_film(settings, out, lambda level: prompts[level].text())
    write_settings(out, identity, None, 0)
    rows = _run(out, settings, learner, film, contrastive=contrastive(learner))
    return CaptionerSummary(model=save_deltas(learner, out / "weights"), rows=tuple(rows), rejected={})


def _run(
    out: Path,
    settings: CaptionerTrainConfig,
    learner: Learner,
    data: TrainingData,
    *,
    contrastive: Objective | None = None,
    num_threads: int = 1,
) -> list[Row]:
    """Train under a progress line; OUT/report.html after each stage."""
    run = Run(out, settings, learner, data, contrastive=contrastive, num_threads=num_threads)
    total = sum(run.num_steps(stage) for stage in settings.stages)
    line = Line("train", total, total, STEPS)

    def on_row(row: Row) -> None:
        if "step" in row:
            line.add(1)
            line.notes = (f"{row['stage']}: loss {row['loss']:.3f}",)
        else:
            build_captioner_report(str(out))

    run.on_row = on_row
    with shown(line, lambda: line.update({})):
        rows = run.train()
    build_captioner_report(str(out))
    return rows


def prompts_of(caption: CaptionConfig) -> dict[CaptionLevel, Prompt]:
    """The prompts of `caption.prompts`; a model is trained on the plain ones, unless that says otherwise."""
    prompts = PROMPT_SETS["plain-v1" if caption.prompts == "auto" else caption.prompts]
    return {level: prompts.of(level) for level in set(ASKED_AS.values())}


def frames_of(data: bytes, frames: FramesConfig) -> Any:
    """The frames of a clip, (T, H, W, 3) uint8, as the captioner samples them."""
    (window,) = windows_of(data, frames)
    return window.rgb


def _clip_rows(dataset: Dataset) -> Iterator[dict[str, Any]]:
    """The index's clips, each with `texts`: level → texts, variant after variant."""
    index = dataset.read_index()
    texts: dict[str, dict[str, list[str]]] = {}
    ordered = sorted(dataset.texts(index).to_pylist(), key=lambda row: (row["clip_id"], row["level"], row["variant"]))
    for row in ordered:
        texts.setdefault(row["clip_id"], {}).setdefault(row["level"], []).append(row["text"])
    columns = ["clip_id", "shard", "offset", "size", "digest", "kind", "split"]
    for row in index.select(columns).to_pylist():
        yield row | {"texts": texts.get(row["clip_id"], {})}


def _clips(
    rows: Iterable[Mapping[str, Any]], prompts: Mapping[CaptionLevel, Prompt], made: Iterable[Instructions]
) -> list[Clip]:
    instructions: dict[str, list[Question]] = {}
    for one in made:
        questions = [Question(prompt=turn.question, answer=turn.answer) for turn in one.turns]
        instructions.setdefault(one.clip_id, []).extend(questions)
    clips = []
    for row in rows:
        asked: dict[Task, tuple[Question, ...]] = {}
        for task, level in ASKED_AS.items():
            prompt = prompts[level].text(is_image=row["kind"] == "image")
            if found := tuple(Question(prompt=prompt, answer=text) for text in row["texts"].get(task, ())):
                asked[task] = found
        if row["clip_id"] in instructions:
            asked["instructions"] = tuple(instructions[row["clip_id"]])
        place = {name: row[name] for name in ("clip_id", "shard", "offset", "size", "digest")}
        clips.append(Clip(**place, texts=asked, is_held_out=row["split"] == "val"))
    return clips


def _instructions(
    rows: Iterable[Mapping[str, Any]], settings: InstructionsConfig, out: Path, url: str
) -> list[Instructions]:
    fields = {row["clip_id"]: row["texts"]["fields"][0] for row in rows if row["texts"].get("fields")}
    if not fields:
        raise ValueError(
            f"train_captioner.instructions: no clip of {url} has fields, which instructions are made from; "
            f"`reelpack caption {url} --set caption.prompts=fields-v1 --set caption.backend.model=MODEL` writes them"
        )
    total = len(fields) * len(settings.kinds)
    line = Line("instructions", total, total, CLIPS)

    def on_done(done: int, total: int) -> None:
        line.num_done, line.finished = done, done

    with shown(line, lambda: line.update({})):
        made, failures = make_instructions(fields, settings, settings.backend.pinned().build(), out, on_done)
    if failures and not any(one.turns for one in made):
        raise ValueError(f"train_captioner.instructions: all requests failed; the first: {failures[0].detail}")
    if not any(one.turns for one in made):
        raise ValueError(
            f"train_captioner.instructions: the model wrote nothing that can be used ({_rejected(made)}); use one of "
            "2 B weights or more"
        )
    if failures:
        console.print(f"{len(failures)} requests for instructions failed; the same command asks them again")
    return made


def _rejected(made: Iterable[Instructions]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for one in made:
        for reason, count in one.rejected.items():
            counts[reason] = counts.get(reason, 0) + count
    return counts


def _caption_command(url: str, folder: Path, caption: CaptionConfig, frames: FramesConfig) -> str:
    """What captions the dataset as the model was trained."""
    prompts = "plain-v1" if caption.prompts == "auto" else caption.prompts
    changed = frames.model_dump(mode="json", exclude_defaults=True)
    settings = {"backend.model": folder, "prompts": prompts, **{f"frames.{name}": changed[name] for name in changed}}
    return f"reelpack caption {url} " + " ".join(f"--set caption.{name}={value}" for name, value in settings.items())


def _notes(rows: Iterable[Row], num_held_out: int) -> Iterator[str]:
    if not num_held_out:
        yield "no clip is held out (select.split.val_fraction), so that loss and grounding are not measured"
    last = {row["task"]: row for row in rows if row.get("when") == "after"}
    for task, row in last.items():
        if row["looks"] is False:
            yield (
                f"{task}: it is not shown that the captioner looks at the clips: their own frames make the captions "
                f"{row['gap_other']:+.3f} nats per token likelier than another clip's. Train the projector longer or "
                "with a higher lr, and look at the captions before you use them"
            )
