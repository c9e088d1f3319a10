"""The list of stretches of the film that the embedded generator is trained on (docs/models/reelpack_dit.md).

    python -m pipelines.demo.film film.csv

A row is a stretch of `LENGTH` frames of a captioned shot, with one of the shot's short captions in turn; the next one
begins `STEP` frames later, and the last one ends with the shot. Nothing of the demo's excerpts is among them.
"""

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

from caption.llava.corpus import load_shots
from curate.encoders import weights

LENGTH, STEP = 34, 24
"""Frames at 24 per second: 17 at the demo's 12, and one second."""


def stretches(start: int, end: int) -> list[tuple[int, int]]:
    """Half-open frame ranges that cover a shot; one range where it is shorter than a stretch.

    >>> stretches(100, 170)
    [(100, 134), (124, 158), (136, 170)]
    """
    last = max(start, end - LENGTH)
    starts = [*range(start, last, STEP), last]
    return [(first, min(first + LENGTH, end)) for first in starts]


def rows(video: str) -> Iterator[dict[str, str | int]]:
    """Rows of an input list (docs/inputs.md) over the film at `video`."""
    for shot in load_shots():
        for number, (first, end) in enumerate(stretches(shot.start_frame, shot.end_frame)):
            caption = shot.short[number % len(shot.short)]
            yield {"path": video, "first_frame": first, "end_frame": end, "caption": caption}


def write_film_list(file: Path) -> None:
    """Write the list as CSV.

    Raises:
        MissingWeights: the film is not in the cache.
    """
    with file.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, ("path", "first_frame", "end_frame", "caption"))
        writer.writeheader()
        writer.writerows(rows(str(weights.resolve("bbb-film"))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("file", type=Path, help="CSV file to write")
    write_film_list(parser.parse_args().file)


if __name__ == "__main__":
    main()
