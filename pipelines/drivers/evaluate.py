"""Generated videos of a run, measured beside the clips of a dataset. The driver behind `reelpack evaluate`.

    RUN/evaluation/step-000500-1f0c2a97/00000.mp4  00000.json  …  nearest/00000.mp4  …  evaluate.json

A folder belongs to a checkpoint and to settings of sampling: videos that are in it are not generated again. On several
ranks (torchrun) each generates and looks at its share.
"""

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain, product
from pathlib import Path
from typing import Any

from curate.schema import content_digest
from curate.storage.place import is_url
from curate.storage.publish import write_text
from pipelines.console.interrupted import is_first_rank
from pipelines.console.progress import CLIPS, track
from pipelines.drivers.sample import warn
from pipelines.generation.asked import Asked
from pipelines.generation.generator import Generator
from pipelines.generation.prompt_file import listed, read_prompts
from pipelines.generation.shown import make_shown
from train.data.fingerprint import NO_TEXT
from train.distributed.ranks import RankGrid, join_ranks
from train.evaluate.quality.clips import RealClip, View, encoded_views, read_clips
from train.evaluate.quality.config import MeasureConfig
from train.evaluate.quality.figures import Figures
from train.evaluate.quality.measure import check_counts, measure
from train.evaluate.quality.observe import Observer
from train.evaluate.quality.stored import see_clips, see_videos, video_file, write_nearest
from train.evaluate.quality.vbench import export_vbench
from train.run.folder import RunRecord
from train.sampling.config import SampleConfig
from train.sampling.request import size_of

logger = logging.getLogger(__name__)
NUM_SHOWN = 24
"""Videos, the worst first, whose nearest training clip is kept to be looked at."""
NUM_TOLD = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated:
    """What was found, and the folder of the videos and of evaluate.json."""

    folder: str
    figures: Figures


def evaluate(
    run: str,
    config: MeasureConfig,
    sampling: SampleConfig,
    *,
    num_samples: int,
    prompts: Path | None = None,
    against: Sequence[str] = (),
    size: str | None = None,
    num_frames: int | None = None,
) -> Evaluated:
    """Generate what is missing, measure, and write evaluate.json.

    Args:
        run: folder of a training run.
        config: what is measured.
        sampling: how videos are drawn; the seed of a video is `sampling.seed` and its number.
        num_samples: videos.
        prompts: file of what they show, in turn; None: captions of held-out clips.
        against: datasets whose clips are compared with; none: those of the run.
        size: "WIDTHxHEIGHT" in px; None: the size of most clips, as the run's were encoded.
        num_frames: of a video; None: likewise.

    Raises:
        ValueError: no run, too few samples or clips, a network that cannot be loaded or takes longer videos, a size
            that the run's autoencoder cannot make.
    """
    if is_url(run):
        raise ValueError(f"{run}: expected a run on this machine, where its videos are written; copy it here first")
    generator = Generator(run, sampling)
    record, sampling = generator.record, generator.config
    datasets = list(against) or [part["url"] for part in record.datasets]
    held_out, training = (_clips(datasets, split, given=bool(against)) for split in ("val", "train"))
    view = _view(run, [*held_out, *training], record, sampling, size, num_frames)
    clips = [clip for clip in held_out if clip.fits(view)]
    check_counts(num_samples, len(clips))
    lines = _captions(clips, view, generator) if prompts is None else _lines(prompts, view, sampling)
    asked = _in_turn(lines, num_samples)
    warn(chain.from_iterable(generator.check(one, sampling) for one in asked))
    folder = _folder(run, generator.step, sampling, view)
    paths = [video_file(folder, number, view.num_frames) for number in range(len(asked))]
    with join_ranks(sampling.device) as ranks:
        observer = Observer(config, ranks.device)
        observer.check_length(view.num_frames)
        _generate_missing(generator, asked, paths, ranks)
        generated = see_videos(paths, [one.prompt for one in asked], view.fps, observer, ranks, _watch)
        known = [clip for clip in training if clip.fits(view)][: config.max_training]
        seen = partial(see_clips, view=view, observer=observer, ranks=ranks, watch=_watch, kept_in=folder.parent)
        beside, near = seen(clips[: config.max_held_out], with_text=True), seen(known, with_text=False)
        figures = measure(generated, beside, near, config)
        if ranks.is_main:
            write_nearest(figures, known, folder, view, NUM_SHOWN)
            facts = {
                "run": generator.name, "step": generator.step, "view": asdict(view), "against": datasets,
                "prompts": "captions of held-out clips" if prompts is None else "given",
                "sampling": sampling.model_dump(mode="json"), "measured": config.model_dump(mode="json"),
            }  # fmt: skip
            write_text(str(folder / "evaluate.json"), json.dumps(facts | {"figures": asdict(figures)}, indent=1))
        ranks.barrier()
    return Evaluated(folder=str(folder), figures=figures)


def _generate_missing(generator: Generator, asked: Sequence[Asked], paths: Sequence[Path], ranks: RankGrid) -> None:
    """The videos that are not there, or are of other settings; each rank makes its share."""
    config = generator.config
    missing = [number for number, one in enumerate(asked) if not generator.has_made(paths[number], one, config)]
    ranks.barrier()
    own = missing[ranks.rank :: ranks.world_size]
    make = partial(make_shown, name="generate") if is_first_rank() else Generator.make
    for _ in make(generator, [asked[number] for number in own], config, lambda i: paths[own[i]]):
        pass
    ranks.barrier()


def _lines(file: Path, view: View, sampling: SampleConfig) -> list[Asked]:
    """Of a file of prompts, each of the size and length that all have.

    Raises:
        ValueError: lines that cannot be used, or are of another size.
    """
    lines = read_prompts(file, f"{view.width}x{view.height}", view.num_frames, sampling)
    sides = view.width, view.height, view.num_frames
    other = {
        number: f"asks for {one.num_frames} frames of {one.width}x{one.height}"
        for number, one in lines
        if (one.width, one.height, one.num_frames) != sides
    }
    if other:
        raise ValueError(
            f"--prompts {file}: all videos of an evaluation are {view}; leave size and frames out of the lines, or "
            f"pass --size and --frames:{listed(other)}"
        )
    return [one for _, one in lines]


def _clips(datasets: Sequence[str], split: str, *, given: bool) -> list[RealClip]:
    try:
        return read_clips(datasets, split)
    except ValueError as error:
        remedy = "expected a dataset that `reelpack curate` wrote" if given else "name a dataset with --against"
        raise ValueError(f"clips to compare with: {error}; {remedy}") from error


def _view(
    run: str,
    clips: Sequence[RealClip],
    record: RunRecord,
    sampling: SampleConfig,
    size: str | None,
    num_frames: int | None,
) -> View:
    """Size and length: as given, or those of most clips.

    Raises:
        ValueError: a size that is none, or the record does not say at which size clips were encoded.
    """
    known = encoded_views(clips, record.latents)
    usual = [one for one, _ in known.most_common()]
    given = None if size is None else size_of(size, "--size")
    if not usual and (given is None or num_frames is None):
        raise ValueError(f"{run}: its record does not say how its clips were encoded; pass --size and --frames")
    sides = usual[0][:2] if given is None else given
    frames = num_frames or next((one[2] for one in usual if one[:2] == sides), usual[0][2] if usual else 1)
    if usual and (*sides, frames) not in known:
        near = ", ".join(f"{count} clips at {w}x{h} of {t}" for (w, h, t), count in known.most_common(NUM_TOLD))
        logger.warning(
            "%s: no clip of the dataset is %dx%d of %d frames as the run encodes them (most: %s): its samples of "
            "this size say little",
            run, *sides, frames, near,
        )  # fmt: skip
    fps = 0.0 if frames == 1 else sampling.fps or record.fps
    return View(width=sides[0], height=sides[1], num_frames=frames, fps=fps)


def _captions(clips: Sequence[RealClip], view: View, generator: Generator) -> list[Asked]:
    """Of the clips that have one, for a run that reads captions; else its classes, or the empty prompt."""
    config, record = generator.train_config, generator.record
    reads = config.model.reads_captions and record.text["fingerprint"] != NO_TEXT["fingerprint"]
    prompts = [clip.caption for clip in clips if clip.caption] if reads else []
    classes = map(str, range(0 if reads else config.model.num_classes or 0))
    labels: list[str | None] = [*classes] or [None]
    return [
        Asked(
            prompt=prompt, width=view.width, height=view.height, num_frames=view.num_frames, seed=number, label=label
        )
        for number, (prompt, label) in enumerate(product(prompts or [""], labels), generator.config.seed)
    ]


def _in_turn(lines: Sequence[Asked], count: int) -> list[Asked]:
    """So many of the lines, again and again; each time with another seed."""
    turns = (divmod(number, len(lines)) for number in range(count))
    return [replace(lines[line], seed=lines[line].seed + turn * len(lines)) for turn, line in turns]


def _folder(run: str, step: int, sampling: SampleConfig, view: View) -> Path:
    """Of the videos: another checkpoint and other settings have another one."""
    saved = Path(run) / f"checkpoints/step-{step:06d}/checksums.json"
    weights = saved.read_text() if saved.is_file() else ""
    settings = sampling.model_dump_json(exclude={"device", "step"})
    digest = content_digest("evaluation", settings, json.dumps(asdict(view)), weights)[:8]
    return Path(run) / "evaluation" / f"step-{step:06d}-{digest}"


def _watch(items: Iterable[Any], count: int, what: str) -> Iterable[Any]:
    return track(items, count, what, unit=CLIPS) if is_first_rank() else items


def to_vbench(found: Evaluated, out: str) -> str:
    """The videos in VBench's layout.

    Raises:
        ValueError: the folder is not empty, or the samples are pictures.
    """
    files = sorted(Path(found.folder).glob("*.mp4"))[: found.figures.num_videos]
    if not files:
        raise ValueError(f"--vbench {out}: the samples are pictures; VBench takes videos: pass --frames")
    prompts = {video.number: video.prompt for video in found.figures.videos}
    return str(export_vbench([(prompts[int(file.stem)], file.read_bytes()) for file in files], Path(out)))
