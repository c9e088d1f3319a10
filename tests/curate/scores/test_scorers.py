"""The contract of every member of `ScorerConfig`."""

import pickle
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pytest

from curate.encoders.image import EncoderPool
from curate.scores.config import ScorerConfig
from curate.scores.frames import ClipFrames
from curate.scores.scorer import Scorer

MEMBERS = get_args(get_args(ScorerConfig)[0])


@pytest.fixture(scope="module", params=MEMBERS, ids=lambda member: member.__name__)
def config(request: pytest.FixtureRequest, embedded_weights: None) -> Any:
    return request.param()


@pytest.fixture(scope="module")
def scorer(config: Any, encoders: EncoderPool) -> Scorer:
    built = config.build()
    built.setup(encoders)
    return built


@pytest.fixture
def clips() -> list[ClipFrames]:
    """Clips of unequal length and size: a single frame, dots, strips and flat color among them."""
    rng = np.random.default_rng(0)
    shapes = [(3, 48, 64, 3), (1, 64, 48, 3), (5, 48, 64, 3), (2, 16, 16, 3), (2, 9, 9, 3), (2, 20, 700, 3)]
    pictures = [rng.integers(0, 256, shape, np.uint8) for shape in shapes]
    return [ClipFrames(rgb) for rgb in [*pictures, np.full((3, 64, 64, 3), 7, np.uint8)]]


def test_every_clip_gets_a_finite_value_in_every_column(scorer: Scorer, clips: list[ClipFrames]) -> None:
    for score in scorer.score(clips):
        assert tuple(score) == tuple(scorer.columns)
        for column, value in score.items():
            assert np.isfinite(value).all()
            assert pa.scalar(value).type in (scorer.columns[column], pa.list_(pa.float64()))


def test_a_clips_values_do_not_depend_on_the_others_to_the_bit(scorer: Scorer, clips: list[ClipFrames]) -> None:
    together = scorer.score(clips)
    backwards = scorer.score([ClipFrames(clip.rgb) for clip in clips[::-1]])
    assert backwards[::-1] == together
    for clip, score in zip(clips, together, strict=True):
        assert scorer.score([ClipFrames(clip.rgb)])[0] == score
    assert len({str(score) for score in together}) > 1


def test_the_frames_are_left_as_they_were(scorer: Scorer, clips: list[ClipFrames]) -> None:
    before = [clip.rgb.copy() for clip in clips]
    scorer.score(clips)
    assert all(np.array_equal(a, b.rgb) for a, b in zip(before, clips, strict=True))


def test_no_clips_no_values(scorer: Scorer) -> None:
    assert scorer.score([]) == []


def test_a_copy_pickled_before_setup_has_the_same_key(config: Any) -> None:
    copy = pickle.loads(pickle.dumps(config.build()))
    assert copy.key == config.build().key


def test_a_config_survives_the_way_through_a_file(config: Any) -> None:
    assert type(config).model_validate(config.model_dump(mode="json")) == config
