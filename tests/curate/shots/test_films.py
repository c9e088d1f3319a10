"""The films that detectors are measured on: their labels are exact."""

from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from tests.support.film_files import ENCODERS, Codec, Encoding
from tests.support.film_joins import KINDS, Effect
from tests.support.films import CALM, Film, Recipe, make_film
from tests.support.footage import SHOTS, DrawnFootage, FileFootage, demo_footage

FOOTAGE = DrawnFootage(num_shots=6)
SMALL = Recipe(num_shots=8, size=(48, 64), shot_frames=(3, 20), decoys=0)


def with_decoys(seed: int) -> Film:
    return make_film(seed, FOOTAGE, replace(SMALL, shot_frames=(40, 60), decoys=1))


def pure(film: Film, take: int, number: int) -> np.ndarray:
    """Frame `number` of a take, as the footage gives it."""
    one = film.takes[take]
    return film.footage.read(one.shot, one.offset + number, 1, film.recipe.size)[0]


@pytest.mark.parametrize("effect", KINDS)
def test_frames_of_a_label_mix_and_their_neighbors_do_not(effect: Effect) -> None:
    film = make_film(3, FOOTAGE, replace(SMALL, odds={effect: 1}))
    frames = list(film.frames())
    assert len(frames) == film.num_frames and len(film.labels) == 7
    for number, (label, join) in enumerate(zip(film.labels, film.joins, strict=True)):
        before, length = frames[label.first - 1], film.takes[number].num_frames
        assert np.array_equal(before, pure(film, number, length - join.mixed_before - 1))
        assert np.array_equal(frames[label.end], pure(film, number + 1, join.mixed_after))
        for k, frame in enumerate(frames[label.first : label.end]):
            sides = [(number, length - join.mixed_before + k)] if k < join.mixed_before else []
            after = k - (label.end - label.first - join.mixed_after)
            sides += [(number + 1, after)] if after >= 0 else []
            assert not any(np.array_equal(frame, pure(film, *side)) for side in sides)


@pytest.mark.parametrize("seed", range(5))
def test_labels_are_in_order_with_shots_between_them(seed: int) -> None:
    film = make_film(seed, FOOTAGE, replace(SMALL, num_shots=30))
    assert all(one.end < other.first for one, other in pairwise(film.labels))
    for number, label in enumerate(film.labels):
        assert film.shot_of[label.first - 1] == number and film.shot_of[label.end] == number + 1
        assert (film.shot_of[label.first : label.end] == -1).all()
        assert (label.first == label.end) == (label.kind == "cut")
    assert len(film.shot_of) == film.num_frames == sum(1 for _ in film.frames())


def test_a_decoy_changes_frames_of_one_shot_away_from_its_ends() -> None:
    seen: Counter[str] = Counter()
    for seed in (8, 9, 10):
        film = with_decoys(seed)
        frames = list(film.frames())
        plain = list(replace(film, takes=[replace(take, decoy=None) for take in film.takes]).frames())
        for decoy in film.decoys:
            assert len(set(film.shot_of[decoy.first - CALM : decoy.end + CALM])) == 1
            assert not np.array_equal(frames[decoy.first], plain[decoy.first])
            if decoy.name in ("flash", "exposure", "text"):
                assert np.array_equal(frames[decoy.first - 1], plain[decoy.first - 1])
            seen[decoy.name] += 1
    assert set(seen) == {"flash", "exposure", "shake", "pan", "credits", "text"}


def test_a_film_is_a_function_of_its_seed() -> None:
    one, same, other = (list(with_decoys(seed).frames()) for seed in (1, 1, 2))
    assert np.array_equal(one, same) and (len(one) != len(other) or not np.array_equal(one, other))


@pytest.mark.parametrize("rate", [Fraction(25), Fraction(30000, 1001), Fraction(60)], ids=str)
def test_other_rates_repeat_frames_of_the_footage(rate: Fraction) -> None:
    film = make_film(0, FOOTAGE, replace(SMALL, rate=rate, odds={"cut": 1}, shot_frames=(60, 60)))
    frames = list(film.frames())
    assert len(frames) == film.num_frames
    first = frames[: film.labels[0].first]
    num_changes = sum(not np.array_equal(one, other) for one, other in pairwise(first))
    assert num_changes == pytest.approx((len(first) - 1) * 24 / rate, abs=1)


@pytest.mark.parametrize("codec", ENCODERS)
@pytest.mark.parametrize("vfr", [False, True])
def test_a_file_has_every_frame_of_the_film(tmp_path: Path, codec: Codec, vfr: bool) -> None:
    film = make_film(4, FOOTAGE, replace(SMALL, num_shots=3, gain=0.5))
    path = film.write(tmp_path / "film.mp4", Encoding(codec=codec, vfr=vfr))
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    times = [frame.time for frame in frames]
    assert len(frames) == film.num_frames and times == sorted(set(times))
    steps = {round(float((other - one) * 24)) for one, other in pairwise(times)}
    assert steps == ({1, 2, 3} if vfr else {1})
    for frame, made in zip(frames, film.frames(), strict=True):
        assert abs(frame.to_ndarray(format="rgb24").mean() - made.mean()) < 6


def test_shots_of_the_film_do_not_overlap_and_are_read_by_frame_number() -> None:
    assert all(first < end for first, end in SHOTS) and all(one[1] < other[0] for one, other in pairwise(SHOTS))
    footage: FileFootage = demo_footage()
    shot = footage.shots[1]
    with av.open(str(shot.path)) as container:
        frame = next(islice(container.decode(video=0), shot.first + 40, None))
    expected = frame.to_ndarray(width=64, height=36, format="rgb24", interpolation="AREA")
    read = footage.read(1, 38, 4, (36, 64))
    assert read.shape == (4, 36, 64, 3) and np.array_equal(read[2], expected)
