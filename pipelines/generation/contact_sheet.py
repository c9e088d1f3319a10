"""Generated videos side by side in one file: a row for each prompt, a column for each seed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from pathlib import Path

import numpy as np

from curate.media.codecs import EncodeConfig
from curate.media.decode import clip_frames, clip_times
from curate.media.encode import Mp4Encoder
from curate.storage.publish import publish
from pipelines.generation.asked import Asked
from train.sampling.files import encoded
from train.sampling.provenance import Provenance, with_xmp

WIDEST, HIGHEST = 3840, 4096
"""Of a sheet, px: players decode no larger H.264."""
GAP, TEXT_PX, LINE_PX, MOST_LINES = 8, 14, 18, 2
PAPER, INK = (24, 26, 28), (232, 232, 230)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """A video or a picture, and what is written above it."""

    path: Path
    heading: str


def rows_of(asked: Sequence[Asked], paths: Sequence[Path]) -> list[tuple[str, list[Cell]]]:
    """Videos of one prompt that follow each other are a row."""
    both = zip(asked, paths, strict=True)
    groups = [list(group) for _, group in groupby(both, key=lambda pair: (pair[0].title, pair[0].label))]
    return [
        (group[0][0].title, [Cell(path=path, heading=f"seed {one.seed}") for one, path in group]) for group in groups
    ]


def contact_sheet(rows: Sequence[tuple[str, Sequence[Cell]]], path: Path, provenance: Provenance) -> Path:
    """Write the sheet, at the rate of the longest video; shorter ones stay on their last frame.

    Args:
        rows: A prompt and its cells, each.
        path: Of the sheet; it gets the suffix .png where all cells are pictures.
        provenance: Of all together.

    Returns:
        The file.
    """
    times = {cell.path: clip_times(str(cell.path)) for _, cells in rows for cell in cells}
    first = [[next(clip_frames(str(c.path), times[c.path], np.array([0]))) for c in cells] for _, cells in rows]
    layout = _Layout(rows, [frame.shape[:2] for line in first for frame in line])
    longest = max(times.values(), key=lambda one: len(one.pts))
    length = len(longest.pts)
    paper = layout.paper()
    cells = [cell for _, line in rows for cell in line]
    videos = [_held(cell.path, length) for cell in cells]
    frames = (layout.filled(paper, shown) for shown in zip(*videos, strict=True))
    if length == 1:
        path = path.with_suffix(".png")
        data = encoded(next(frames)[None], 0, provenance)
    else:
        rate = Fraction((length - 1) / longest.starts_s[-1]).limit_denominator(1001)
        data = _video(frames, layout.size, rate, provenance)
    with publish(str(path)) as file:
        file.write(data)
    return path


class _Layout:
    """Where the cells are. All have one size, in which the largest fits."""

    def __init__(self, rows: Sequence[tuple[str, Sequence[Cell]]], sizes: Sequence[tuple[int, int]]) -> None:
        self.rows = rows
        columns = max(len(cells) for _, cells in rows)
        height, width = max(size[0] for size in sizes), max(size[1] for size in sizes)
        texts = (MOST_LINES + 1) * LINE_PX + 2 * GAP
        scale = min(
            1.0,
            (WIDEST - (columns + 1) * GAP) / (columns * width),
            (HIGHEST - GAP - len(rows) * texts) / (len(rows) * height),
        )
        if scale <= 0:
            raise ValueError(f"{len(rows)} prompts are more than a sheet of {HIGHEST} px has rows for; make several")
        self.cell = max(2, int(height * scale)), max(2, int(width * scale))
        self.row_px = self.cell[0] + texts
        wide, high = GAP + columns * (self.cell[1] + GAP), GAP + len(rows) * self.row_px
        self.size = wide + wide % 2, high + high % 2  # (width, height)

    def places(self) -> Iterator[tuple[Cell, int, int]]:
        """Cells with their left and top, px."""
        for r, (_, cells) in enumerate(self.rows):
            for c, cell in enumerate(cells):
                top = GAP + r * self.row_px + (MOST_LINES + 1) * LINE_PX + GAP
                yield cell, GAP + c * (self.cell[1] + GAP), top

    def paper(self) -> np.ndarray:
        """The sheet without its pictures, (H, W, 3) uint8."""
        from PIL import Image, ImageDraw, ImageFont

        sheet = Image.new("RGB", self.size, PAPER)
        draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT_PX)
        for r, (prompt, _) in enumerate(self.rows):
            lines = _wrapped(prompt, lambda text: draw.textlength(text, font=font), self.size[0] - 2 * GAP)
            draw.text((GAP, GAP + r * self.row_px), "\n".join(lines), INK, font=font, spacing=LINE_PX - TEXT_PX)
        for cell, left, top in self.places():
            [heading] = _wrapped(cell.heading, lambda text: draw.textlength(text, font=font), self.cell[1], 1)
            draw.text((left, top - LINE_PX), heading, INK, font=font)
        return np.asarray(sheet)

    def filled(self, paper: np.ndarray, shown: Sequence[np.ndarray]) -> np.ndarray:
        """A frame of the sheet."""
        sheet = paper.copy()
        for (_, left, top), rgb in zip(self.places(), shown, strict=True):
            small = _within(rgb, self.cell)
            sheet[top : top + small.shape[0], left : left + small.shape[1]] = small
        return sheet


def _held(path: Path, length: int) -> Iterator[np.ndarray]:
    """`length` frames (H, W, 3) uint8: the last one again and again."""
    times = clip_times(str(path))
    return clip_frames(str(path), times, np.minimum(np.arange(length), len(times.pts) - 1))


def _within(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scaled down to fit into `size`; never enlarged."""
    import cv2

    scale = min(1.0, size[0] / rgb.shape[0], size[1] / rgb.shape[1])
    if scale == 1:
        return rgb
    height, width = (max(1, int(side * scale)) for side in rgb.shape[:2])
    return np.asarray(cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA))


def _wrapped(text: str, length: Callable[[str], float], width: int, most: int = MOST_LINES) -> list[str]:
    """At most so many lines; what does not fit is left out."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if length(longer) <= width:
            lines[-1] = longer
        elif len(lines) < most and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = _cut(longer, length, width)
            break
    return [_cut(line, length, width) for line in lines]


def _cut(line: str, length: Callable[[str], float], width: int) -> str:
    if length(line) <= width:
        return line
    while line and length(f"{line}…") > width:
        line = line[:-1]
    return f"{line}…"


def _video(frames: Iterator[np.ndarray], size: tuple[int, int], rate: Fraction, provenance: Provenance) -> bytes:
    encoder = Mp4Encoder(EncodeConfig(), size=size, fps=rate, time_base=1 / rate)
    encoder.container.metadata.update(provenance.tags)
    for number, frame in enumerate(frames):
        encoder.add(frame, pts=number, duration=1)
    return with_xmp(encoder.finish(), provenance.xmp())
