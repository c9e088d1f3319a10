"""The contract of every member of `ScorerConfig`."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import save_file

from curate.columns import CAPTION_SCORES, COLUMNS, FACTS, SIGNAL_COLUMNS
from curate.encoders.base import EncoderPool
from curate.encoders.conse import ConseConfig
from curate.encoders.efficientnet import EfficientNetConfig
from curate.media.sound import Sound, SoundTrack
from curate.scores import config as family
from curate.scores.aesthetic import AestheticConfig
from curate.scores.base import Scorer
from curate.scores.brisque import BrisqueConfig
from curate.scores.config import SCORERS
from curate.scores.embedding import EmbeddingConfig
from curate.scores.frames import ClipFrames
from curate.scores.label import LabelConfig
from curate.scores.nsfw import NsfwConfig
from curate.scores.own_text import OwnTextConfig
from curate.scores.score import Scored, ScoreItem, ScoreStage
from curate.scores.sound import SoundConfig
from curate.scores.static_overlay import StaticOverlayConfig
from curate.scores.text_area import TextAreaConfig
from curate.scores.text_match import TextMatchConfig
from tests.support.families import with_member

EXTENDED = with_member(family, "tests.support.members.contrast", "ContrastConfig", after="| BrisqueConfig")
"""The family with the member that CONTRIBUTING.md adds."""
CHANGES: dict[type, list[dict[str, Any]]] = {
    StaticOverlayConfig: [{"min_moving": 0.9}, {"surroundings": 0.5}],
    SoundConfig: [{"silence_db": -50.0}],
    BrisqueConfig: [{"num_frames": 2}],
    TextMatchConfig: [{"wanted": ("a rabbit",)}, {"unwanted": ()}, {"encoder": ConseConfig(num_classes=3)},
                      {"templates": ("a photo of {}",)}],
    LabelConfig: [{"labels": ("a rabbit", "a sky")}, {"encoder": ConseConfig(num_classes=3)},
                  {"templates": ("a photo of {}",)}],
    OwnTextConfig: [{"column": "other"}, {"encoder": ConseConfig(num_classes=3)}, {"templates": ("a photo of {}",)}],
    EmbeddingConfig: [{"encoder": ConseConfig()}],
    NsfwConfig: [],
    TextAreaConfig: [{"num_frames": 1}, {"max_line": 1.0}],
    AestheticConfig: [{"encoder": ConseConfig()}],
}  # fmt: skip
NO_CHANGES: dict[type, list[dict[str, Any]]] = {
    TextMatchConfig: [{"encoder": ConseConfig(device="cpu", batch_size=1)}],
    LabelConfig: [{"encoder": ConseConfig(device="cpu", batch_size=1)}],
    OwnTextConfig: [{"encoder": ConseConfig(device="cpu", batch_size=1)}],
    EmbeddingConfig: [{"encoder": EfficientNetConfig(device="cpu", batch_size=1)}],
    NsfwConfig: [{"batch_size": 1}, {"device": "cpu"}],
    TextAreaConfig: [{"device": "cpu"}],
    AestheticConfig: [{"encoder": EfficientNetConfig(device="cpu", batch_size=1)}],
}


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear head on 1280 numbers."""
    path = tmp_path_factory.mktemp("head") / "head.safetensors"
    weight = np.random.default_rng(0).normal(size=(1, 1280)).astype(np.float32)
    save_file({"weight": weight, "bias": np.array([5], np.float32)}, path)
    return path


@pytest.fixture(scope="module", params=EXTENDED.SCORERS, ids=lambda member: member.__name__)
def config(request: pytest.FixtureRequest, embedded_weights: None, head: Path) -> Any:
    needed = {AestheticConfig: {"head": head, "encoder": EfficientNetConfig()}, OwnTextConfig: {"column": "title"}}
    return request.param(**needed.get(request.param, {}))


@pytest.fixture(scope="module")
def scorer(config: Any, encoders: EncoderPool) -> Scorer:
    built = config.build()
    built.setup(encoders)
    return built


@pytest.fixture
def clips() -> list[ClipFrames]:
    """Clips of unequal length and size: a single frame, dots, strips and flat color among them; each louder than the
    one before, some without sound."""
    rng = np.random.default_rng(0)
    shapes = [(3, 48, 64, 3), (1, 64, 48, 3), (5, 48, 64, 3), (2, 16, 16, 3), (2, 9, 9, 3), (2, 20, 700, 3)]
    pictures = [rng.integers(0, 256, shape, np.uint8) for shape in shapes]
    pictures.append(np.full((3, 64, 64, 3), 7, np.uint8))
    track = SoundTrack(codec="aac", rate=8000, channels=1, layout="mono", track=0, num_tracks=1)
    noise = [rng.normal(0, 0.02 * (number + 1), (1, 8000)).astype(np.float32) for number in range(len(pictures))]
    sounds = [Sound(track=track, samples=samples) if number % 3 < 2 else None for number, samples in enumerate(noise)]
    texts = [{"title": f"picture {number}"} for number in range(len(pictures))]
    given = zip(pictures, sounds, texts, strict=True)
    return [ClipFrames(rgb, 1.0, lambda sound=sound: sound, own) for rgb, sound, own in given]


def test_every_clip_gets_a_value_in_the_declared_range_of_every_column(
    config: Any, scorer: Scorer, clips: list[ClipFrames]
) -> None:
    for score in scorer.score(clips):
        assert tuple(score) == tuple(config.columns)
        for name, value in score.items():
            assert pa.scalar(value).type in (config.columns[name].type, pa.list_(pa.float64()))
            if isinstance(value, str):
                continue
            low, high = config.columns[name].range
            assert np.isfinite(value).all() and low <= np.min(value) <= np.max(value) <= high


def test_no_two_members_declare_the_same_column_or_kind() -> None:
    names = [name for scorer in SCORERS for name in scorer.columns]
    kinds = [scorer.model_fields["kind"].default for scorer in SCORERS]
    assert len(COLUMNS) == len({*FACTS, *SIGNAL_COLUMNS, *CAPTION_SCORES}) + len(names)
    assert len(kinds) == len(set(kinds))


def test_a_default_rule_can_be_passed_and_be_broken(config: Any) -> None:
    for column in config.columns.values():
        assert column.description
        assert column.default.mismatch(column.type) is None
        assert all(column.range[0] <= bound <= column.range[1] for bound in column.default.sides.values())


def fresh(clip: ClipFrames) -> ClipFrames:
    """The same clip, with nothing derived from it yet."""
    return ClipFrames(clip.rgb, clip.duration_s, lambda: clip.sound, clip.texts)


def test_a_clips_values_do_not_depend_on_the_others_to_the_bit(scorer: Scorer, clips: list[ClipFrames]) -> None:
    together = scorer.score(clips)
    backwards = scorer.score([fresh(clip) for clip in clips[::-1]])
    assert backwards[::-1] == together
    for clip, score in zip(clips, together, strict=True):
        assert scorer.score([fresh(clip)])[0] == score


def test_different_clips_get_different_values(config: Any, scorer: Scorer, film: list[ClipFrames]) -> None:
    if config.kind in ("static_overlay", "text_area", "sound"):
        pytest.skip("the same on the film, as it should be; their own tests show more")
    assert len({str(score) for score in scorer.score(film)}) == len(film)


def test_what_changes_a_value_changes_the_key_and_nothing_else_does(config: Any) -> None:
    changed = [config, *(config.model_copy(update=update) for update in CHANGES.get(type(config), []))]
    assert len({each.build().key for each in changed}) == len(changed)
    for update in NO_CHANGES.get(type(config), []):
        assert config.model_copy(update=update).build().key == config.build().key
    settings = {name for update in CHANGES.get(type(config), []) + NO_CHANGES.get(type(config), []) for name in update}
    assert settings == set(type(config).model_fields) - {"kind", "head"}, "a setting is not tested"


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


def test_a_member_that_was_added_scores_clips_beside_the_others(items: list[ScoreItem]) -> None:
    config = EXTENDED.ScoreConfig.model_validate({"scorers": {"static_overlay": {}, "contrast": {}}})
    stage = ScoreStage(config)
    stage.setup()
    (scored,) = stage.process(items[:1])
    assert isinstance(scored, Scored) and not scored.failures
    values = {name: value for family in scored.values.values() for name, value in family.items()}
    assert 0 < values["contrast"] < 0.5 and "static_overlay" in values
