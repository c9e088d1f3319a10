"""Films made of real shots whose labels are exact by construction, any seed.

    film = make_film(7, film_footage())
    film.labels      # [Transition(61, 61, "cut"), Transition(102, 131, "gradual"), ...]
    film.write(Path("film.mp4"), Encoding(codec="hevc", crf=32))

Frames of a label [first, end) mix both shots, or a shot and a color; frame `first - 1` is of the shot before alone,
frame `end` of the shot after alone. A hard cut is `(n, n)`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from curate.shots.base import Transition
from tests.support.film_decoys import COMMON, DECOYS
from tests.support.film_files import Encoding, write_film
from tests.support.film_joins import COLORS, HOLD, KINDS, LENGTHS, Effect, Join, mixes
from tests.support.footage import Footage

CALM = 8
"""Frames of a shot at either end that no decoy touches."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a film is made of.

    Attributes:
        size: Height and width in pixels, both even.
        shot_frames: Fewest and most frames of a shot alone; a short shot of the footage gives what it has.
        odds: Relative frequency of each effect.
        decoys: Share of the shots that get one, where they are long enough.
        decoy_names: Which ones.
        gain: Factor of all pixels; below 1 the film is dark.
    """

    num_shots: int = 40
    rate: Fraction = Fraction(24)
    size: tuple[int, int] = (270, 480)
    shot_frames: tuple[int, int] = (16, 100)
    odds: Mapping[Effect, float] = field(
        default_factory=lambda: {"cut": 10, "blend": 2, "dissolve": 4, "fade_black": 2, "fade_white": 1, "wipe": 2}
    )
    decoys: float = 0.5
    decoy_names: Sequence[str] = COMMON
    gain: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Decoy:
    """Something in frames [first, end) of a shot that is no transition."""

    name: str
    first: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Take:
    """`num_frames` of a shot from its frame `offset` on, in frames of the film. `decoy` counts in these frames."""

    shot: int
    offset: int
    num_frames: int
    decoy: Decoy | None
    seed: int


@dataclass(frozen=True, kw_only=True)
class Film:
    """A plan: frames are made when they are asked for, and are the same each time."""

    footage: Footage
    recipe: Recipe
    takes: Sequence[Take]
    joins: Sequence[Join]

    @cached_property
    def labels(self) -> list[Transition]:
        """In order."""
        labels, place = [], 0
        for take, before, join in zip(self.takes, (None, *self.joins), self.joins, strict=False):
            place += take.num_frames - (before.mixed_after if before else 0) - join.mixed_before
            labels.append(Transition(place, place + join.num_frames, KINDS[join.effect]))
            place += join.num_frames
        return labels

    @property
    def effects(self) -> list[Effect]:
        """Of each label."""
        return [join.effect for join in self.joins]

    @cached_property
    def num_frames(self) -> int:
        return len(self.shot_of)

    @cached_property
    def shot_of(self) -> np.ndarray:
        """`(num_frames,)` int64, which shot each frame shows, from 0; -1 in a transition."""
        parts = []
        for number, take in enumerate(self.takes):
            mixed = self.joins[number - 1].mixed_after if number else 0
            mixed += self.joins[number].mixed_before if number < len(self.joins) else 0
            parts.append(np.full(take.num_frames - mixed, number))
            if number < len(self.joins):
                parts.append(np.full(self.joins[number].num_frames, -1))
        return np.concatenate(parts)

    @cached_property
    def decoys(self) -> list[Decoy]:
        begins = [0, *(label.end - join.mixed_after for label, join in zip(self.labels, self.joins, strict=True))]
        return [
            Decoy(name=take.decoy.name, first=begin + take.decoy.first, end=begin + take.decoy.end)
            for take, begin in zip(self.takes, begins, strict=True)
            if take.decoy
        ]

    def frames(self) -> Iterator[np.ndarray]:
        """`(height, width, 3)` uint8 RGB, in order; about two shots are held."""
        gain = self.recipe.gain
        for frame in self._frames():
            yield frame if gain == 1 else cv2.convertScaleAbs(frame, alpha=gain)

    def write(self, path: Path, encoding: Encoding | None = None) -> Path:
        """Encodes the film; every frame of it is a frame of the file."""
        write_film(self.frames(), path, self.recipe.rate, encoding or Encoding())
        return path

    def _frames(self) -> Iterator[np.ndarray]:
        shown, begin = self._read(self.takes[0]), 0
        for join, take in zip(self.joins, self.takes[1:], strict=True):
            following = self._read(take)
            end = len(shown) - join.mixed_before
            yield from shown[begin:end]
            yield from mixes(join, shown[end:], following[: join.mixed_after], take.seed)
            shown, begin = following, join.mixed_after
        yield from shown[begin:]

    def _read(self, take: Take) -> np.ndarray:
        decoy = take.decoy
        scale = DECOYS[decoy.name].scale if decoy else 1
        height, width = self.recipe.size
        step = self.footage.fps / self.recipe.rate
        wanted = np.array([int(number * step) for number in range(take.offset, take.offset + take.num_frames)])
        size = (round(height * scale), round(width * scale))
        frames = self.footage.read(take.shot, int(wanted[0]), int(wanted[-1] - wanted[0]) + 1, size)[
            wanted - wanted[0]
        ]
        if decoy is None:
            return frames
        return DECOYS[decoy.name].apply(
            frames, decoy.first, decoy.end, self.recipe.size, np.random.default_rng(take.seed)
        )


def make_film(seed: int, footage: Footage, recipe: Recipe | None = None) -> Film:
    """A film of `recipe.num_shots` shots of the footage in random order. Equal arguments give equal films."""
    recipe = recipe or Recipe()
    rng = np.random.default_rng(seed)
    lengths = np.array([int((length - 1) * recipe.rate / footage.fps) for length in footage.lengths])
    num_rounds = -(-recipe.num_shots // len(lengths))
    # Long shots tend to come first: they have room for long transitions.
    rounds = [
        rng.choice(len(lengths), len(lengths), replace=False, p=lengths / lengths.sum()) for _ in range(num_rounds)
    ]
    shots = np.concatenate(rounds)[: recipe.num_shots].tolist()
    names = list(recipe.odds)
    odds = np.array(list(recipe.odds.values()), float)
    joins = []
    for one, other in pairwise(shots):
        effect = names[int(rng.choice(len(names), p=odds / odds.sum()))]
        fewest, most = LENGTHS[effect]
        room = (min(lengths[one], lengths[other]) - recipe.shot_frames[0]) // 2
        mixed = int(rng.integers(fewest, max(fewest, min(most, room)) + 1))
        joins.append(
            Join(effect=effect, mixed=mixed, hold=int(rng.integers(HOLD[0], HOLD[1] + 1)) * (effect in COLORS))
        )
    heads = [0, *(join.mixed_after for join in joins)]
    tails = [*(join.mixed_before for join in joins), 0]
    takes = [
        _take(rng, shot, int(lengths[shot]), head, tail, recipe)
        for shot, head, tail in zip(shots, heads, tails, strict=True)
    ]
    return Film(footage=footage, recipe=recipe, takes=takes, joins=joins)


def _take(rng: np.random.Generator, shot: int, length: int, head: int, tail: int, recipe: Recipe) -> Take:
    """Of a shot of `length` frames, `head` and `tail` frames for the transitions around it and some between them."""
    alone = min(length - head - tail, int(rng.integers(recipe.shot_frames[0], recipe.shot_frames[1] + 1)))
    num_frames = head + alone + tail
    offset = int(rng.integers(0, length - num_frames + 1))
    name = str(rng.choice(list(recipe.decoy_names)))
    fewest, most = DECOYS[name].lengths
    room = alone - 2 * CALM
    decoy = None
    if rng.random() < recipe.decoys and room >= fewest:
        count = int(rng.integers(fewest, min(most, room) + 1))
        first = head + CALM + int(rng.integers(0, room - count + 1))
        first = {"inside": first, "start": head, "whole": 0}[DECOYS[name].place]
        end = num_frames if DECOYS[name].place == "whole" else first + count
        decoy = Decoy(name=name, first=first, end=end)
    return Take(shot=shot, offset=offset, num_frames=num_frames, decoy=decoy, seed=int(rng.integers(2**31)))
