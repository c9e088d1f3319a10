"""Prompts → video files. The driver behind `reelpack sample`."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from caption.upsample import UpsampleConfig, Upsampled
from pipelines.drivers.upsample import upsample_prompts
from pipelines.generation.contact_sheet import Cell, contact_sheet
from train.autoencoder.base import VideoAutoencoder
from train.autoencoder.config import AutoencoderConfig, autoencoder_of
from train.autoencoder.pixels import decode_latent
from train.data.fingerprint import is_outdated
from train.data.tasks.base import Task, described
from train.run.folder import read_run, run_folder
from train.sampling.cascade import Stage, draw_stages, plan_stages
from train.sampling.config import SampleConfig
from train.sampling.files import suffix_of, write_generated
from train.sampling.given import Given
from train.sampling.given_files import NOTHING, GivenFiles
from train.sampling.loaded import LoadedRun
from train.sampling.provenance import Provenance
from train.sampling.read_given import read_given
from train.sampling.request import Request, size_of
from train.sampling.sample import Generated
from train.sampling.slide import Slide, draw_windows, plan_slide

logger = logging.getLogger(__name__)


def sample_to_files(
    run: str | Sequence[str],
    prompts: Sequence[str],
    out: Path | Sequence[Path],
    size: str,
    num_frames: int,
    config: SampleConfig,
    labels: Sequence[str] = (),
    given: GivenFiles = NOTHING,
    upsampling: UpsampleConfig | None = None,
    autoencoder: AutoencoderConfig | None = None,
    grid: bool = False,
) -> list[Path]:
    """Generate one video per prompt and seed and write it, with a .json of the request; one frame becomes a PNG.

    Args:
        run: directory of a training run; several: stages of a cascade, the first draws from the prompts alone.
        prompts: what to show.
        out: a file per video; or one name, numbered (`x-0.mp4`, `x-1.mp4`, …) where there are several.
        size: "WIDTHxHEIGHT" in px.
        num_frames: frames of each video.
        config: how to sample.
        labels: a class per video, by name or number; one alone is that of all prompts, and the
            other way round.
        given: files that each video is generated from.
        upsampling: how prompts become captions of the run's style first; None: they are used as they are.
        autoencoder: what decodes, of the same latents; None: what made those that the run was trained on.
        grid: also write all videos side by side (`x-grid.mp4`): a row per prompt, a column per seed.

    Raises:
        ValueError: a size that is none, or that the run's strides do not divide; no run there; a file that cannot be
            read, or for a run that was not trained on a task that takes it.
    """
    width, height = size_of(size, "--size")
    seeds = config.seeds or (None,)
    asked = [one for one in _asked(prompts, labels) for _ in seeds]
    paths = _numbered(out, len(asked), num_frames) if isinstance(out, Path) else list(out)
    expected = suffix_of(num_frames)
    if any(path.suffix != expected for path in paths):
        raise ValueError(f"--out {paths[0]}: {num_frames} frames are written as {expected}")
    requests = [
        Request(prompt=text, width=width, height=height, num_frames=num_frames, label=label, seed=seed)
        for (text, label), seed in zip(asked, cycle(seeds), strict=False)
    ]
    runs = [run] if isinstance(run, str) else list(run)
    slide = plan_slide(requests[0], config, *read_run(run_folder(runs[0]))) if len(runs) == 1 else None
    if slide is not None:
        requests = [replace(request, num_frames=slide.window) for request in requests]
    stages = plan_stages(runs, requests[0], config)
    for stage in stages:
        if is_outdated(stage.record.latents):
            logger.warning(
                "%s was trained on latents of an earlier reelpack, which may have been scrambled", stage.run
            )
    decoder = autoencoder_of(stages[-1].record.latents, chosen=autoencoder)
    given.check_strength(config.strength)
    encoded = _encoded(given, requests[0], stages, decoder)
    if slide is not None:
        slide.check_given(encoded)
    requests = [replace(request, given=encoded) for request in requests]
    if upsampling is not None:
        texts = upsample_prompts(stages[0].run, [request.prompt for request in requests], upsampling)
        requests = [replace(request, prompt=_text_of(text)) for request, text in zip(requests, texts, strict=True)]
    cells: dict[int, Cell] = {}
    names = " + ".join(run_folder(stage.run).name for stage in stages)
    for number, result, loaded, rgb in _drawn(stages, requests, slide, decoder):
        settings = {
            **config.model_dump(mode="json", exclude={"step", "seed", "seeds"}),
            **({} if upsampling is None else {"typed": asked[number][0]}),
            "label": result.request.label,
            "size": size,
            "num_frames": num_frames,
            **given.facts,
        }
        provenance = Provenance(
            run=names,
            step=loaded.step,
            prompt=result.request.prompt,
            seed=result.seed,
            is_composite=bool(given),
        )
        write_generated(paths[number], rgb, result.fps, provenance, settings)
        cells[number] = Cell(path=paths[number], heading=f"seed {result.seed}")
    if grid:
        titles = [text or label or "(no prompt)" for text, label in asked[:: len(seeds)]]
        in_order = iter([cells[number] for number in range(len(asked))])
        rows = [(title, list(islice(in_order, len(seeds)))) for title in titles]
        of_all = replace(provenance, prompt="; ".join(titles), seed=None)
        sheet = paths[0].with_name(f"{_stem(out, paths)}-grid{paths[0].suffix}")
        paths.append(contact_sheet(rows, sheet, result.fps, of_all))
    return paths


def _encoded(given: GivenFiles, asked: Request, stages: Sequence[Stage], decoder: VideoAutoencoder) -> Given:
    """What the files show to the first stage. Where they are none, a run that was trained to be given something is
    named in a warning.

    Raises:
        ValueError: as `read_given`.
    """
    first = stages[0]
    if not given:
        _warn_of_nothing(first.run, first.config.data.tasks)
        return Given()
    encoder = decoder if len(stages) == 1 else autoencoder_of(first.record.latents)
    rate = first.settings.fps or first.record.fps
    return read_given(given, first.request(asked, 0, None), first.config, first.record, encoder, rate)


def _drawn(
    stages: Sequence[Stage], requests: Sequence[Request], slide: Slide | None, decoder: VideoAutoencoder
) -> Iterator[tuple[int, Generated, LoadedRun, np.ndarray]]:
    """Each request's number, latent, last run and pixels, (T, H, W, 3) uint8."""
    if slide is None:
        for number, result, run in draw_stages(stages, requests):
            yield number, result, run, decode_latent(decoder, result.latent)
        return
    run = LoadedRun(stages[0].run, stages[0].settings)
    for number, result, rgb in draw_windows(run, requests, stages[0].settings, slide, decoder):
        yield number, result, run, rgb


def _warn_of_nothing(run: str, tasks: Sequence[Task]) -> None:
    """Say so where a run was trained to be given something."""
    if not any(task.weight and task.kind == "unconditional" for task in tasks):
        logger.warning("%s was trained on the tasks (%s), and is given nothing", run, described(tasks))


def _text_of(result: Upsampled) -> str:
    if result.reason:
        logger.warning("the prompt %r is used as it is: %s", result.prompt, result.reason)
    return result.text


def _asked(prompts: Sequence[str], labels: Sequence[str]) -> list[tuple[str, str | None]]:
    """What steers each video."""
    texts: list[str] = [*prompts] or [""]
    classes: list[str | None] = [*labels] or [None]
    if 1 not in (len(texts), len(classes)) and len(texts) != len(classes):
        raise ValueError(f"got {len(texts)} prompts and {len(classes)} labels; expected as many, or one of either")
    count = max(len(texts), len(classes))
    return list(zip(texts * (count // len(texts)), classes * (count // len(classes)), strict=True))


def _stem(out: Path | Sequence[Path], paths: Sequence[Path]) -> str:
    return out.stem if isinstance(out, Path) else paths[0].stem


def _numbered(out: Path, count: int, num_frames: int) -> list[Path]:
    out = out.with_suffix(".png") if num_frames == 1 and out.suffix == ".mp4" else out
    return [out] if count == 1 else [out.with_stem(f"{out.stem}-{number}") for number in range(count)]
