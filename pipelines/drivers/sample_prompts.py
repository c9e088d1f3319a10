"""A file of prompts → a folder of videos. The driver behind `reelpack sample --prompts`."""

import logging
from collections.abc import Iterable
from pathlib import Path

from curate.storage.place import check_folder
from pipelines.generation.asked import Asked
from pipelines.generation.contact_sheet import contact_sheet, rows_of
from pipelines.generation.generator import Generator
from pipelines.generation.prompt_file import listed, read_prompts
from pipelines.generation.shown import make_shown
from train.sampling.config import SampleConfig
from train.sampling.files import suffix_of

logger = logging.getLogger(__name__)


def sample_prompts(
    generator: Generator,
    file: Path,
    out: Path,
    size: str,
    num_frames: int,
    config: SampleConfig,
    *,
    grid: bool = False,
) -> list[Path]:
    """Generate what a file asks for, as OUT/0001-7.mp4: the line and the seed.

    A video that is there with the same settings stays, so the same call resumes after an interruption.

    Args:
        generator: what makes them.
        file: of prompts.
        out: folder.
        size: "WIDTHxHEIGHT" in px, of lines without one.
        num_frames: likewise.
        config: how to sample.
        grid: also write OUT/grid.mp4, all videos side by side.

    Returns:
        The files, in the order of the lines.

    Raises:
        ValueError: lines that cannot be used, or that the run cannot make, each by its number; nothing is generated.
    """
    check_folder(out, f"--out {out}")
    wanted = read_prompts(file, size, num_frames, config)
    _check(generator, file, wanted, config)
    paths = [out / f"{number:04d}-{one.seed}{suffix_of(one.num_frames)}" for number, one in wanted]
    missing = [i for i, (_, one) in enumerate(wanted) if not generator.has_made(paths[i], one, config)]
    if len(missing) < len(wanted):
        logger.warning("%s: %d of %d are there already, and stay", out, len(wanted) - len(missing), len(wanted))
    if missing:
        own = [wanted[i][1] for i in missing]
        for _ in make_shown(generator, own, config, lambda number: paths[missing[number]], "sample"):
            pass
    if grid:
        rows = rows_of([one for _, one in wanted], paths)
        is_composite = any(one.given for _, one in wanted)
        provenance = generator.provenance("; ".join(title for title, _ in rows), is_composite=is_composite)
        paths.append(contact_sheet(rows, out / "grid.mp4", provenance))
    return paths


def _check(generator: Generator, file: Path, wanted: Iterable[tuple[int, Asked]], config: SampleConfig) -> None:
    refused: dict[int, str] = {}
    told: dict[int, str] = {}
    for number, one in wanted:
        try:
            notes = "; ".join(generator.check(one, config))
        except ValueError as error:
            refused[number] = str(error)
        else:
            told |= {number: notes} if notes and notes not in told.values() else {}
    if refused:
        raise ValueError(f"--prompts {file}: the run cannot make {len(refused)} lines:{listed(refused)}")
    if told:
        logger.warning("--prompts %s:%s", file, listed(told))
