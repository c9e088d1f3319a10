"""Generated videos of a run, measured beside the clips of a dataset. The driver behind `reelpack evaluate`.

    RUN/evaluation/step-000500-1f0c2a97/00000.mp4  00000.json  …  nearest/00000.mp4  …  evaluate.json

A folder belongs to a checkpoint and to settings of sampling: videos that are in it are not generated again. On several
ranks (torchrun) each generates and looks at its share.
"""

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from curate.schema import content_digest
from curate.storage.place import is_url
from curate.storage.publish import write_text
from pipelines.console.interrupted import is_first_rank
from pipelines.console.progress import CLIPS, track
from train.data.fingerprint import NO_TEXT
from train.distributed.ranks import join_ranks
from train.evaluate.quality.clips import RealClip, View, encoded_views, read_clips
from train.evaluate.quality.config import MeasureConfig
from train.evaluate.quality.figures import Figures
from train.evaluate.quality.measure import check_counts, measure
from train.evaluate.quality.observe import Observer
from train.evaluate.quality.stored import generate_missing, see_clips, see_videos, write_nearest
from train.evaluate.quality.vbench import export_vbench
from train.run.config import TrainConfig
from train.run.folder import RunRecord, checkpoint_steps, read_run, run_folder
from train.sampling.config import SampleConfig
from train.sampling.request import Request, check_requests, size_of

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
    prompts: Sequence[str] = (),
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
        prompts: what they show, in turn; none: captions of held-out clips.
        against: datasets whose clips are compared with; none: those of the run.
        size: "WIDTHxHEIGHT" in px; None: the size of most clips, as the run's were encoded.
        num_frames: of a video; None: likewise.

    Raises:
        ValueError: no run, too few samples or clips, a network that cannot be loaded or takes longer videos, a size
            that the run's autoencoder cannot make.
    """
    train_config, record = read_run(run_folder(run))
    datasets = list(against) or [part["url"] for part in record.datasets]
    held_out, training = (_clips(datasets, split, given=bool(against)) for split in ("val", "train"))
    view = _view(run, [*held_out, *training], record, sampling, size, num_frames)
    clips = [clip for clip in held_out if clip.fits(view)]
    check_counts(num_samples, len(clips))
    asked = _requests(view, prompts or _captions(clips), num_samples, sampling, train_config, record)
    check_requests(asked, sampling, train_config, record)
    step = checkpoint_steps(run_folder(run))[-1] if sampling.step is None else sampling.step
    folder = _folder(run, step, sampling, view)
    with join_ranks(sampling.device) as ranks:
        observer = Observer(config, ranks.device)
        observer.check_length(view.num_frames)
        generate_missing(run, asked, folder, sampling.model_copy(update={"step": step}), ranks, _watch)
        generated = see_videos(asked, folder, view.fps, observer, ranks, _watch)
        known = [clip for clip in training if clip.fits(view)][: config.max_training]
        beside = see_clips(clips[: config.max_held_out], view, observer, ranks, _watch, with_text=True)
        figures = measure(generated, beside, see_clips(known, view, observer, ranks, _watch, with_text=False), config)
        if ranks.is_main:
            write_nearest(figures, known, folder, view, NUM_SHOWN)
            facts = {
                "run": run_folder(run).name, "step": step, "view": asdict(view), "against": datasets,
                "prompts": "given" if prompts else "captions of held-out clips",
                "sampling": sampling.model_dump(mode="json"), "measured": config.model_dump(mode="json"),
            }  # fmt: skip
            write_text(str(folder / "evaluate.json"), json.dumps(facts | {"figures": asdict(figures)}, indent=1))
        ranks.barrier()
    return Evaluated(folder=str(folder), figures=figures)


def read_prompts(file: str) -> list[str]:
    """One prompt a line; empty lines are left out.

    Raises:
        ValueError: the file cannot be read, or holds no prompt.
    """
    try:
        lines = Path(file).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"--prompts {file}: cannot be read ({error}); expected a text file, one prompt a line"
        ) from None
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise ValueError(f"--prompts {file}: got no prompt; expected one a line")
    if empty := len(lines) - len(prompts):
        logger.warning("--prompts %s: %d empty lines are left out", file, empty)
    return prompts


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


def _captions(clips: Sequence[RealClip]) -> list[str]:
    """Of the clips that have one; none at all: the empty prompt."""
    return [clip.caption for clip in clips if clip.caption] or [""]


def _requests(
    view: View,
    prompts: Sequence[str],
    count: int,
    sampling: SampleConfig,
    config: TrainConfig,
    record: RunRecord,
) -> list[Request]:
    """Prompts in turn for a run that reads captions, else its classes in turn."""
    reads = config.model.reads_captions and record.text["fingerprint"] != NO_TEXT["fingerprint"]
    classes = config.model.num_classes
    if not reads:
        prompts = [""]
    return [
        Request(
            prompt=prompts[number % len(prompts)],
            label=str(number % classes) if classes and not reads else None,
            width=view.width,
            height=view.height,
            num_frames=view.num_frames,
            seed=sampling.seed + number,
        )
        for number in range(count)
    ]


def _folder(run: str, step: int, sampling: SampleConfig, view: View) -> Path:
    """Of the videos: another checkpoint and other settings have another one.

    Raises:
        ValueError: the run is not on this machine.
    """
    if is_url(run):
        raise ValueError(f"{run}: expected a run on this machine, where its videos are written; copy it here first")
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
