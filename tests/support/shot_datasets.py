"""Labeled films: those of public datasets in the layouts of their authors, and label files beside videos.

Frames are counted from 0. A row of shots has the first and the last frame of one shot; frames between two rows are a
gradual transition.

bbc        videos/bbc_01.mp4, fixed/01-scenes.txt (BBC Planet Earth, zenodo.org/records/14873790): rows of shots
autoshot   videos/NAME.mp4, annotations/NAME.txt (AutoShot's test set): rows of shots
rai        1.mp4, labels/1_gt.txt (RAI): rows of shots
clipshots  videos/**/NAME.mp4, annotations/test.json (ClipShots): {"NAME.mp4": {"transitions": [[last frame of a shot,
           first frame of the next], ...], "frame_num": ...}}
rows       NAME.mp4 (or another suffix), NAME.txt: rows of shots, `#` begins a comment; a first row that begins after
           frame 0 follows a fade from black. `benchmarks/labels/` has some, which say where their videos are
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from curate.shots.base import Transition


@dataclass(frozen=True, kw_only=True)
class LabeledFilm:
    """A file and its transitions, in order."""

    path: Path
    labels: Sequence[Transition]


def read_dataset(name: str, folder: Path) -> list[LabeledFilm]:
    """The films of a dataset that have labels and whose video is there, by name.

    Raises:
        ValueError: there is none, or a label file is not in the format; the message has its line.
    """
    films = sorted(DATASETS[name](folder), key=lambda film: film.path)
    if not films:
        raise ValueError(f"{folder}: found no video with labels; expected the layout of {name!r}:\n{__doc__}")
    return films


def between_rows(path: Path, *, fades_in: bool = False) -> list[Transition]:
    """The transitions between a file's rows of shots; `fades_in`: frames before the first row are one, too."""
    shots: list[tuple[int, int]] = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        row = re.split(r"[\s,]+", line.partition("#")[0].strip())
        if row == [""]:
            continue
        try:
            first, last = (int(value) for value in row[:2])
        except ValueError:
            raise ValueError(
                f"{path}:{number}: got {line!r}; expected the first and the last frame of a shot"
            ) from None
        if first > last or (shots and first <= shots[-1][0]):
            raise ValueError(f"{path}:{number}: got {line!r}; expected shots in order, each with a frame at least")
        shots.append((first, last))
    between = transitions([(one[1], other[0]) for one, other in pairwise(shots)])
    return [Transition(0, shots[0][0], "fade"), *between] if fades_in and shots and shots[0][0] else between


def transitions(pairs: Sequence[tuple[int, int]]) -> list[Transition]:
    """From the last frame of a shot and the first frame of the next; shots that overlap meet at the later's start."""
    return [
        Transition(min(last + 1, first), first, "cut" if last + 1 >= first else "gradual") for last, first in pairs
    ]


def _bbc(folder: Path) -> Iterator[LabeledFilm]:
    for labels in (folder / "fixed").glob("*-scenes.txt"):
        yield from _film(folder / "videos" / f"bbc_{labels.name.partition('-')[0]}.mp4", labels)


def _autoshot(folder: Path) -> Iterator[LabeledFilm]:
    for labels in (folder / "annotations").glob("*.txt"):
        yield from _film(folder / "videos" / f"{labels.stem}.mp4", labels)


def _rai(folder: Path) -> Iterator[LabeledFilm]:
    for labels in (folder / "labels").glob("*_gt.txt"):
        yield from _film(folder / f"{labels.stem.removesuffix('_gt')}.mp4", labels)


def _rows(folder: Path) -> Iterator[LabeledFilm]:
    for labels in folder.glob("*.txt"):
        for path in sorted(folder.glob(f"{labels.stem}.*")):
            if path != labels:
                yield LabeledFilm(path=path, labels=between_rows(labels, fades_in=True))


def _film(path: Path, labels: Path) -> Iterator[LabeledFilm]:
    """Nothing where the video is not there: some are no longer public."""
    if path.exists():
        yield LabeledFilm(path=path, labels=between_rows(labels))


def _clipshots(folder: Path) -> Iterator[LabeledFilm]:
    source = folder / "annotations" / "test.json"
    if not source.exists():
        return
    videos = {path.name: path for path in (folder / "videos").rglob("*.mp4")}
    for name, entry in json.loads(source.read_text()).items():
        try:
            pairs = [(int(last), int(first)) for last, first in entry["transitions"]]
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"{source}: {name}: got {entry!r}; expected a list of pairs `transitions`") from None
        if name in videos:
            yield LabeledFilm(path=videos[name], labels=transitions(sorted(pairs)))


DATASETS: Mapping[str, Callable[[Path], Iterator[LabeledFilm]]] = {
    "bbc": _bbc,
    "autoshot": _autoshot,
    "rai": _rai,
    "clipshots": _clipshots,
    "rows": _rows,
}
