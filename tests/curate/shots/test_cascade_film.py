"""The cascade on a small film of real shots: it finds each transition, and no clip holds another's frames."""

from fractions import Fraction

import numpy as np

from curate.shots.base import Timeline
from curate.shots.cascade import CascadeConfig
from curate.shots.shot import shots_between
from curate.shots.windows import WindowedScores
from tests.support.films import Recipe, make_film
from tests.support.footage import demo_footage
from tests.support.shot_scores import tally

RECIPE = Recipe(
    num_shots=4,
    size=(108, 192),
    shot_frames=(16, 18),
    odds={"cut": 2, "dissolve": 1, "fade_black": 1},
    decoys=0,
)


def test_each_transition_is_found_and_every_clip_is_pure() -> None:
    film = make_film(3, demo_footage(), RECIPE)
    assert {label.kind for label in film.labels} == {"cut", "gradual", "fade"}
    detector = CascadeConfig().build()
    detector.setup()
    windows = WindowedScores(detector)
    for frame in film.frames():
        windows.add(frame)
    num_frames = film.num_frames
    timeline = Timeline(
        uri="film", pts=np.arange(num_frames), end_pts=num_frames, time_base=Fraction(1, 24), fps=Fraction(24)
    )
    found = detector.transitions(windows.finish(), timeline)
    clips = [(shot.first, shot.end) for shot in shots_between(found, [], num_frames)]
    one = tally(found, film.labels, clips, num_frames)
    assert (one.f1(0), one.gradual_found, one.num_false, one.impure) == (1, one.num_gradual, 0, 0)
