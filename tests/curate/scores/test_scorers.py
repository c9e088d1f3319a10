"""The contract of every member of `ScorerConfig`."""

import pickle
from typing import Any, get_args

import numpy as np
import pytest

from curate.scores.score import ScorerConfig
from curate.scores.scorer import Scorer

MEMBERS = get_args(ScorerConfig) or (ScorerConfig,)


@pytest.fixture(scope="module", params=MEMBERS, ids=lambda member: member.__name__)
def config(request: pytest.FixtureRequest, embedded_weights: None) -> Any:
    return request.param()


@pytest.fixture(scope="module")
def scorer(config: Any) -> Scorer:
    built = config.build()
    built.setup()
    return built


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    """Clips of unequal length and size, one of them a single frame."""
    rng = np.random.default_rng(0)
    shapes = [(3, 48, 64, 3), (1, 64, 48, 3), (5, 48, 64, 3), (2, 9, 9, 3)]
    return [rng.integers(0, 256, shape, np.uint8) for shape in shapes]


def test_every_clip_gets_a_finite_value_in_every_column(scorer: Scorer, clips: list[np.ndarray]) -> None:
    scores = scorer.score(clips)
    assert [tuple(score) for score in scores] == [scorer.columns] * len(clips)
    assert all(type(value) is float and np.isfinite(value) for score in scores for value in score.values())


def test_a_clips_values_do_not_depend_on_the_others_to_the_bit(scorer: Scorer, clips: list[np.ndarray]) -> None:
    together = scorer.score(clips)
    for clip, score in zip(clips, together, strict=True):
        assert scorer.score([clip])[0] == score
    assert len({round(value, 6) for score in together for value in score.values()}) > 1


def test_the_frames_are_left_as_they_were(scorer: Scorer, clips: list[np.ndarray]) -> None:
    before = [clip.copy() for clip in clips]
    scorer.score(clips)
    assert all(np.array_equal(a, b) for a, b in zip(before, clips, strict=True))


def test_no_clips_no_values(scorer: Scorer) -> None:
    assert scorer.score([]) == []


def test_a_copy_pickled_before_setup_has_the_same_key(config: Any) -> None:
    copy = pickle.loads(pickle.dumps(config.build()))
    assert copy.key == config.build().key


def test_a_config_survives_the_way_through_a_file(config: Any) -> None:
    assert type(config).model_validate(config.model_dump(mode="json")) == config
