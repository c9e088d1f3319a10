"""Real shots that films are made of. Each is free of transitions: the ranges were looked at frame by frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np

from curate.encoders import weights
from tests.support.videos import FPS, moving

DEMO = Path(__file__).parents[2] / "pipelines" / "demo" / "media"
FILM_FPS = Fraction(24)

# Half-open ranges of Big Buck Bunny (curate/encoders/training_video.py), two frames or more from the next transition.
# fmt: off
SHOTS = (
    (120, 283), (287, 376), (380, 478), (555, 613), (820, 1143), (1147, 1344), (1348, 1454), (1458, 1529),
    (1533, 1664), (1668, 1709), (1713, 1761), (1765, 1811), (1815, 1917), (1921, 2152), (2156, 2192), (2196, 2346),
    (2496, 2702), (2706, 2829), (2833, 2899), (2903, 2961), (2965, 3043), (3047, 3511), (3515, 3576), (3580, 3742),
    (3746, 3858), (3921, 3987), (3991, 4030), (4090, 4200), (4268, 4330), (4334, 4461), (4480, 4542), (4546, 4610),
    (4614, 4670), (4728, 4794), (4834, 4898), (4902, 4940), (5015, 5077), (5133, 5290), (5309, 5369), (5373, 5428),
    (5445, 5516), (5520, 5577), (5581, 5807), (5846, 6016), (6090, 6126), (6130, 6166), (6170, 6206), (6230, 6266),
    (6270, 6306), (6310, 6346), (6350, 6386), (6390, 6486), (6490, 6621), (6672, 6711), (6715, 6751), (6755, 6831),
    (6835, 7011), (7015, 7082), (7230, 7323), (7402, 7498), (7502, 7544), (7548, 7611), (7615, 7659), (7663, 7716),
    (7771, 7868), (8026, 8083), (8100, 8152), (8156, 8400), (8947, 9007), (9011, 9078), (9082, 9146), (9150, 9330),
    (9381, 9418), (9422, 9466), (9509, 9573), (9595, 9670), (9721, 9793), (9797, 9848), (9852, 9889), (9893, 9950),
    (10018, 10079), (10127, 10182), (10186, 10232), (10262, 10301), (10341, 10407), (10411, 10451), (10470, 10572),
    (10690, 10840), (10877, 10997), (11195, 11310), (11351, 11518),
)
# fmt: on


class Footage(Protocol):
    """Shots, numbered from 0."""

    @property
    def fps(self) -> Fraction: ...

    @property
    def lengths(self) -> Sequence[int]:
        """Frames of each shot."""

    def read(self, shot: int, first: int, count: int, size: tuple[int, int]) -> np.ndarray:
        """Frames [first, first + count) of a shot, `(count, height, width, 3)` uint8 RGB, scaled to `size`."""


@dataclass(frozen=True, kw_only=True)
class Shot:
    """Frames [first, end) of a file of constant rate."""

    path: Path
    first: int
    end: int


@dataclass(frozen=True, kw_only=True)
class FileFootage:
    """Shots of files whose first frame is shown at 0."""

    shots: Sequence[Shot]
    fps: Fraction = FILM_FPS

    @property
    def lengths(self) -> Sequence[int]:
        return [shot.end - shot.first for shot in self.shots]

    def read(self, shot: int, first: int, count: int, size: tuple[int, int]) -> np.ndarray:
        import av

        source, frames, (height, width) = self.shots[shot], [], size
        first += source.first
        with av.open(str(source.path)) as container:
            (stream,) = container.streams.video
            assert stream.time_base and stream.average_rate
            container.seek(round(first / stream.average_rate / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                assert frame.pts is not None
                number = round(frame.pts * stream.time_base * stream.average_rate)
                if number >= first:
                    frames.append(frame.to_ndarray(width=width, height=height, format="rgb24", interpolation="AREA"))
                if len(frames) == count:
                    return np.stack(frames)
        raise ValueError(f"{source.path}: got {len(frames)} frames from frame {first} on; expected {count}")


@dataclass(frozen=True, kw_only=True)
class DrawnFootage:
    """Slowly sliding random pictures: quick, for tests that need no real picture."""

    num_shots: int = 8
    size: tuple[int, int] = (96, 128)
    fps: Fraction = FILM_FPS

    @property
    def lengths(self) -> Sequence[int]:
        return [self.size[1]] * self.num_shots

    def read(self, shot: int, first: int, count: int, size: tuple[int, int]) -> np.ndarray:
        import cv2

        frames = moving(shot, (first + count) / FPS, self.size)[first:]
        return np.stack([cv2.resize(frame, size[::-1], interpolation=cv2.INTER_AREA) for frame in frames])


def film_footage() -> FileFootage:
    """The shots of the embedded film's first 480 s, from the asset `bbb-film`.

    Raises:
        MissingWeights: the asset is not there (`reelpack weights bbb-film`).
    """
    path = weights.resolve("bbb-film")
    return FileFootage(shots=[Shot(path=path, first=first, end=end) for first, end in SHOTS])


def demo_footage() -> FileFootage:
    """Those of the demo's excerpts, which the checkout contains."""
    excerpts = {"bbb_a.mp4": (4463, 5809), "bbb_b.mp4": (6168, 6488)}
    return FileFootage(
        shots=[
            Shot(path=DEMO / name, first=first - begin, end=end - begin)
            for name, (begin, finish) in excerpts.items()
            for first, end in SHOTS
            if begin <= first and end <= finish
        ]
    )


def folder_footage(folder: Path, fps: Fraction) -> FileFootage:
    """One shot per file of a folder: clips of `fps` that the caller knows to hold no transition."""
    import av

    shots = []
    for path in sorted(folder.iterdir()):
        with av.open(str(path)) as container:
            count = sum(1 for _ in container.decode(video=0))
        shots.append(Shot(path=path, first=0, end=count))
    return FileFootage(shots=shots, fps=fps)
