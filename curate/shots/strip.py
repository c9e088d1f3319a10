"""A picture of a file's shots: the whole film with its cuts and scores, then the frames at each transition."""

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from curate.media.frames import iter_frames
from curate.shot_list import ShotList
from curate.shots.base import Transition

if TYPE_CHECKING:
    from PIL.Image import Image

THUMB_SIDE_PX = 72
PER_LINE = 16
MAX_LINES = 40
AROUND = 3
"""Frames that are shown on either side of a transition."""

INSIDE = 6
"""Most frames that are shown of a transition."""

MAX_CLOSE_UPS = 200
CURVE_PX, LABEL_PX, GAP_PX = 48, 20, 10
BACKGROUND, TEXT, CUT, LEFT_OUT = (24, 24, 27), (212, 212, 216), (239, 68, 68), (245, 158, 11)
CURVES = ((96, 165, 250), (52, 211, 153), (232, 121, 249), (250, 204, 21))


@dataclass(frozen=True, kw_only=True, slots=True)
class CloseUp:
    """A transition and the frames that are shown of it: `AROUND` before it, some of its own, `AROUND` after it."""

    transition: Transition
    numbers: tuple[int, ...]


def draw_strip(found: ShotList, path: str) -> "Image":
    """All lines of `draw_lines`, one below the other."""
    from PIL import Image

    lines = draw_lines(found, path)
    sheet = Image.new("RGB", (lines[0].width, sum(line.height + GAP_PX for line in lines)), BACKGROUND)
    top = 0
    for line in lines:
        sheet.paste(line, (0, top))
        top += line.height + GAP_PX
    return sheet


def draw_lines(found: ShotList, path: str) -> "list[Image]":
    """Decodes the file once more and draws it, `PER_LINE` frames to a line, then a line per transition.

    A red line is a hard cut. Frames on amber are in no clip. Curves are the detector's scores, each scaled to its
    largest value in the file; a curve has gaps where the detector gives no score.

    Args:
        found: The file's shots.
        path: Its local copy.

    Raises:
        MediaError: The file has changed and does not decode.
    """
    num_frames = len(found.timeline.pts)
    per_line = PER_LINE * max(1, -(-num_frames // (PER_LINE * MAX_LINES)))
    close_ups = _close_ups(found)
    shown = set(range(0, num_frames, per_line // PER_LINE))
    wanted = shown | {number for one in close_ups for number in one.numbers}
    thumbs = _thumbs(found, path, wanted)
    lines = [
        _film_line(found, thumbs, range(first, min(first + per_line, num_frames)), per_line)
        for first in range(0, num_frames, per_line)
    ]
    return lines + [_close_up_line(found, one, thumbs) for one in close_ups]


def _close_ups(found: ShotList) -> list[CloseUp]:
    num_frames = len(found.timeline.pts)
    close_ups = []
    for one in found.transitions[:MAX_CLOSE_UPS]:
        inside = np.linspace(one.first, one.end - 1, min(INSIDE, one.end - one.first)).round().astype(int).tolist()
        around = [*range(one.first - AROUND, one.first), *inside, *range(one.end, one.end + AROUND)]
        numbers = tuple(number for number in around if 0 <= number < num_frames)
        close_ups.append(CloseUp(transition=one, numbers=numbers))
    return close_ups


def _thumbs(found: ShotList, path: str, wanted: set[int]) -> "dict[int, Image]":
    """Frame number → picture; all of the first one's size."""
    from PIL import Image

    thumbs: dict[int, Image.Image] = {}
    frames = iter_frames(path, short_side_px=THUMB_SIDE_PX, time_base=found.timeline.time_base)
    for number, frame in enumerate(itertools.islice(frames, max(wanted) + 1)):
        if number in wanted:
            picture = Image.fromarray(frame.rgb)
            size = next(iter(thumbs.values())).size if thumbs else picture.size
            thumbs[number] = picture if picture.size == size else picture.resize(size)
    return thumbs


def _film_line(found: ShotList, thumbs: "dict[int, Image]", numbers: range, per_line: int) -> "Image":
    from PIL import Image, ImageDraw

    width, height = next(iter(thumbs.values())).size
    line = Image.new("RGB", (width * PER_LINE, LABEL_PX + height + CURVE_PX), BACKGROUND)
    draw = ImageDraw.Draw(line)
    for place, number in enumerate(range(numbers.start, numbers.stop, per_line // PER_LINE)):
        line.paste(thumbs[number], (place * width, LABEL_PX))
    _label(draw, 0, f"frame {numbers.start}, {float(found.timeline.starts_s[numbers.start]):.3f} s")

    def x(number: float) -> float:
        return (number - numbers.start) / per_line * line.width

    for one in found.transitions:
        if one.end >= numbers.start and one.first < numbers.stop:
            color = LEFT_OUT if one.end > one.first else CUT
            draw.rectangle((x(one.first), LABEL_PX + height, x(one.end) + 1, line.height), fill=color)
            draw.rectangle((x(one.first), LABEL_PX - 4, x(one.end) + 1, LABEL_PX), fill=color)
    _curves(draw, found, numbers, x, bottom=line.height - 2)
    return line


def _curves(draw: Any, found: ShotList, numbers: range, x: Any, bottom: int) -> None:
    for values, color in zip(found.scores.T, itertools.cycle(CURVES)):
        largest = np.nanmax(values) if np.isfinite(values).any() else 0.0
        if largest <= 0:
            continue
        heights = bottom - values[numbers.start : numbers.stop] / largest * (CURVE_PX - 4)
        points = [(x(number), float(y)) for number, y in zip(numbers, heights, strict=True)]
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            if np.isfinite(y0) and np.isfinite(y1):
                draw.line((x0, y0, x1, y1), fill=color)


def _close_up_line(found: ShotList, one: CloseUp, thumbs: "dict[int, Image]") -> "Image":
    from PIL import Image, ImageDraw

    width, height = next(iter(thumbs.values())).size
    line = Image.new("RGB", (width * PER_LINE, LABEL_PX + height + 6), BACKGROUND)
    draw = ImageDraw.Draw(line)
    first, end, kind = one.transition
    left_out = f", frames {first} to {end - 1} left out" if end > first else ""
    seconds = float(found.timeline.starts_s[first]) if first < len(found.timeline.pts) else found.timeline.end_s
    _label(draw, 0, f"{kind} at frame {first}, {seconds:.3f} s{left_out}")
    for place, number in enumerate(one.numbers):
        line.paste(thumbs[number], (place * width, LABEL_PX))
        if first <= number < end:
            draw.rectangle((place * width, line.height - 6, (place + 1) * width, line.height), fill=LEFT_OUT)
        elif number == first:
            draw.rectangle((place * width - 1, LABEL_PX, place * width + 1, line.height), fill=CUT)
    return line


def _label(draw: Any, left: int, text: str) -> None:
    from PIL import ImageFont

    draw.text((left + 2, 1), text, fill=TEXT, font=ImageFont.load_default(size=LABEL_PX - 5))
