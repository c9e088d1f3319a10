"""A file of prompts → a folder of videos. The driver behind `reelpack sample --prompts`."""

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from pipelines.console.progress import track
from pipelines.generation.asked import Asked
from pipelines.generation.contact_sheet import Cell, contact_sheet
from pipelines.generation.generator import Generator
from pipelines.generation.prompt_file import listed, read_prompts
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
    wanted = read_prompts(file, size, num_frames, config)
    _check(generator, file, wanted, config)
    paths = [out / f"{number:04d}-{one.seed}{suffix_of(one.num_frames)}" for number, one in wanted]
    missing = [i for i, (_, one) in enumerate(wanted) if not is_made(paths[i], generator.facts(one, config))]
    if len(missing) < len(wanted):
        logger.warning("%s: %d of %d are there already, and stay", out, len(wanted) - len(missing), len(wanted))
    if missing:
        made = generator.make([wanted[i][1] for i in missing], config, lambda number: paths[missing[number]])
        for _ in track(made, len(missing), "sample"):
            pass
    if grid:
        rows = [(title, list(cells)) for title, cells in _rows(wanted, paths)]
        is_composite = any(one.given for _, one in wanted)
        provenance = generator.provenance("; ".join(title for title, _ in rows), is_composite=is_composite)
        paths.append(contact_sheet(rows, out / "grid.mp4", generator.rate(wanted[0][1], config), provenance))
    return paths


def is_made(path: Path, facts: dict[str, Any]) -> bool:
    """Whether a file is there, whole, and of these settings."""
    beside = path.with_suffix(".json")
    if not (path.is_file() and beside.is_file()):
        return False
    try:
        return bool(json.loads(beside.read_text()) == facts)
    except ValueError:
        return False


def _check(generator: Generator, file: Path, wanted: Iterable[tuple[int, Asked]], config: SampleConfig) -> None:
    refused = {}
    for number, one in wanted:
        try:
            generator.check(one, config)
        except ValueError as error:
            refused[number] = str(error)
    if refused:
        raise ValueError(f"--prompts {file}: the run cannot make {len(refused)} lines:{listed(refused)}")


def _rows(wanted: Sequence[tuple[int, Asked]], paths: Sequence[Path]) -> Iterator[tuple[str, Iterator[Cell]]]:
    """Videos of one prompt that follow each other are a row."""
    both = zip((one for _, one in wanted), paths, strict=True)
    for _, row in groupby(both, key=lambda pair: (pair[0].prompt, pair[0].label)):
        first, *others = row
        cells = (Cell(path=path, heading=f"seed {one.seed}") for one, path in [first, *others])
        yield first[0].title, cells
