"""Prompts → video files. The driver behind `reelpack sample`."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from caption.upsample import UpsampleConfig
from curate.encoders.config import ImageTextConfig
from curate.storage.place import check_folder
from pipelines.drivers.upsample import upsample_prompts
from pipelines.generation.asked import Asked
from pipelines.generation.contact_sheet import contact_sheet, rows_of
from pipelines.generation.edit_scores import add_scores
from pipelines.generation.generator import Generator
from pipelines.generation.shown import make_shown
from train.autoencoder.config import AutoencoderConfig
from train.sampling.config import SampleConfig
from train.sampling.files import suffix_of
from train.sampling.given_files import NOTHING, GivenFiles
from train.sampling.request import size_of

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
    scores: ImageTextConfig | None = None,
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
        scores: encoder by which clips that are edited are compared with what they become: a line of the log for each,
            and in its .json; None: they are not.

    Raises:
        ValueError: a size that is none, or that the run's strides do not divide; no run there; a file that cannot be
            read, or for a run that was not trained on a task that takes it.
    """
    if not (prompts or labels or given):
        raise ValueError(
            "got none of --prompt, --prompts, --label, --start, --end, --keys, --video and --invert; expected what "
            "to show"
        )
    if num_frames < 1:
        raise ValueError(f"--frames {num_frames}: expected 1 (images) or more")
    asked = _asked(prompts, labels, given, size, num_frames, config)
    paths = _numbered(out, len(asked), num_frames) if isinstance(out, Path) else list(out)
    expected = suffix_of(num_frames)
    for path in paths:
        if path.suffix != expected:
            raise ValueError(f"--out {path}: {num_frames} frames are written as {expected}")
        check_folder(path.parent, f"--out {path}")
        if path.is_dir():
            raise ValueError(f"--out {path}: is a folder; expected the name of a file, such as {path / path.name}")
    generator = Generator(run, config, autoencoder)
    warn(chain.from_iterable(generator.check(one, config) for one in asked))
    if upsampling is not None:
        asked = _upsampled(asked, generator.runs[0], upsampling)
    for number, path in make_shown(generator, asked, config, lambda number: paths[number], "sample"):
        if scores is not None:
            add_scores(path, asked[number], generator.source(asked[number], config), scores)
    if grid:
        rows = rows_of(asked, paths)
        of_all = generator.provenance("; ".join(title for title, _ in rows), is_composite=bool(given))
        paths.append(contact_sheet(rows, paths[0].with_name(f"{_stem(out, paths)}-grid{expected}"), of_all))
    return paths


def warn(notes: Iterable[str]) -> None:
    """Say each once."""
    for note in dict.fromkeys(notes):
        logger.warning("%s", note)


def _asked(
    prompts: Sequence[str],
    labels: Sequence[str],
    given: GivenFiles,
    size: str,
    num_frames: int,
    config: SampleConfig,
) -> list[Asked]:
    """A video for each prompt and seed."""
    width, height = size_of(size, "--size")
    pairs = _pairs(prompts, labels)
    seeds = [config.seeds or (config.seed + number,) for number in range(len(pairs))]
    return [
        Asked(prompt=text, width=width, height=height, num_frames=num_frames, seed=seed, label=label, given=given)
        for (text, label), own in zip(pairs, seeds, strict=True)
        for seed in own
    ]


def _pairs(prompts: Sequence[str], labels: Sequence[str]) -> list[tuple[str, str | None]]:
    """What steers each video."""
    texts: list[str] = [*prompts] or [""]
    classes: list[str | None] = [*labels] or [None]
    if 1 not in (len(texts), len(classes)) and len(texts) != len(classes):
        raise ValueError(f"got {len(texts)} prompts and {len(classes)} labels; expected as many, or one of either")
    count = max(len(texts), len(classes))
    return list(zip(texts * (count // len(texts)), classes * (count // len(classes)), strict=True))


def _upsampled(asked: Sequence[Asked], run: str, upsampling: UpsampleConfig) -> list[Asked]:
    """With longer prompts, each written once."""
    typed = list(dict.fromkeys(one.prompt for one in asked))
    written = {result.prompt: result for result in upsample_prompts(run, typed, upsampling)}
    for result in written.values():
        if result.reason:
            logger.warning("the prompt %r is used as it is: %s", result.prompt, result.reason)
    return [replace(one, prompt=written[one.prompt].text, typed=one.prompt) for one in asked]


def _stem(out: Path | Sequence[Path], paths: Sequence[Path]) -> str:
    return out.stem if isinstance(out, Path) else paths[0].stem


def _numbered(out: Path, count: int, num_frames: int) -> list[Path]:
    out = out.with_suffix(".png") if num_frames == 1 and out.suffix == ".mp4" else out
    return [out] if count == 1 else [out.with_stem(f"{out.stem}-{number}") for number in range(count)]
