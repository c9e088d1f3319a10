import pickle
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from curate.encoders.conse import ConseConfig
from curate.schema import Failure, FailureKind
from curate.scores.score import ScoreConfig, Scored, ScoreItem, ScoreStage
from curate.scores.text_match import TextMatchConfig


def test_each_clip_is_decoded_once_and_gets_its_own_values(stage: ScoreStage, items: list[ScoreItem]) -> None:
    together = stage.process(items)
    for item, scored in zip(items, together, strict=True):
        assert isinstance(scored, Scored)
        assert scored.clip_id == item.clip.clip_id
        assert scored.num_decoded_frames == stage.config.num_frames
        assert {family: tuple(score) for family, score in scored.values.items()} == stage.families
        assert stage.process([item]) == [scored]


def test_a_bad_clip_fails_alone_and_in_its_place(stage: ScoreStage, items: list[ScoreItem], tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.mp4"
    garbage.write_bytes(b"no video" * 1000)
    batch = [items[0], replace(items[1], path=str(garbage)), replace(items[1], path=str(tmp_path / "gone")), items[2]]
    first, damaged, gone, last = stage.process(batch)
    assert [first, last] == stage.process([items[0], items[2]])
    for failure, kind in ((damaged, FailureKind.NOT_MEDIA), (gone, FailureKind.MISSING)):
        assert isinstance(failure, Failure)
        assert (failure.subject, failure.step, failure.kind) == (items[1].clip.clip_id, "score", kind)


def test_what_a_clip_does_not_owe_is_not_decoded(stage: ScoreStage, items: list[ScoreItem]) -> None:
    settled, owing = stage.process(
        [replace(items[0], families=frozenset()), replace(items[1], families=frozenset(stage.families))]
    )
    assert settled == Scored(clip_id=items[0].clip.clip_id, values={}, num_decoded_frames=0)
    assert [owing] == stage.process([items[1]])


def test_a_still_image_is_one_frame(stage: ScoreStage, items: list[ScoreItem], tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 60, 3), np.uint8)).save(tmp_path / "still.png")
    clip = replace(items[0].clip, kind="image", num_frames=1)
    scored = stage.process([ScoreItem(clip=clip, path=str(tmp_path / "still.png"))])[0]
    assert isinstance(scored, Scored)
    assert scored.num_decoded_frames == 1


def test_a_value_that_is_no_number_is_a_failure_of_the_model(items: list[ScoreItem], embedded_weights: None) -> None:
    class DividingScorer:
        """0 / 0 for the first clip."""

        name, columns, key = "dividing", ("ratio",), "k"

        def setup(self) -> None: ...

        def score(self, clips: Sequence[np.ndarray]) -> list[dict[str, float]]:
            return [{"ratio": float("nan") if index == 0 else 1.0} for index, _ in enumerate(clips)]

    stage = ScoreStage(ScoreConfig(num_frames=1, short_side_px=32))
    stage._scorers = (DividingScorer(),)
    bad, good = stage.process(items[:2])
    assert isinstance(bad, Failure) and bad.kind is FailureKind.MODEL and "ratio" in bad.detail
    assert isinstance(good, Scored)


def test_families_name_everything_that_changes_a_value_and_nothing_else(embedded_weights: None) -> None:
    def families(text_match: TextMatchConfig | None = None, **settings: int) -> tuple[str, ...]:
        config = ScoreConfig(scorers=(text_match or TextMatchConfig(),), **settings)  # type: ignore[arg-type]
        return tuple(ScoreStage(config).families)

    assert families() == families(TextMatchConfig(encoder=ConseConfig(device="cuda", batch_size=1)))
    changed = [
        families(),
        families(num_frames=4),
        families(short_side_px=128),
        families(TextMatchConfig(wanted=("a rabbit",))),
        families(TextMatchConfig(wanted=("a rabbit",), unwanted=())),
        families(TextMatchConfig(encoder=ConseConfig(num_classes=3))),
    ]
    assert len(set(changed)) == len(changed)
    assert all(re.fullmatch(r"[a-z_]+-[0-9a-f]{12}", family) for each in changed for family in each)


def test_a_description_moved_to_the_other_list_is_another_family(embedded_weights: None) -> None:
    configs = [
        TextMatchConfig(wanted=("a", "b"), unwanted=("c",)),
        TextMatchConfig(wanted=("a",), unwanted=("b", "c")),
    ]
    one, other = (ScoreStage(ScoreConfig(scorers=(config,))).families for config in configs)
    assert one.keys() != other.keys()


def test_the_constructor_is_cheap_and_pickles(embedded_weights: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELPACK_CACHE", "/nowhere")
    data = pickle.dumps(ScoreStage(ScoreConfig()))
    monkeypatch.undo()
    assert pickle.loads(data).families == ScoreStage(ScoreConfig()).families


def test_two_scorers_that_would_write_the_same_columns_are_refused() -> None:
    with pytest.raises(ValidationError, match="text_match more than once"):
        ScoreConfig(scorers=(TextMatchConfig(), TextMatchConfig(wanted=("a rabbit",))))
