import pickle
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pydantic import ValidationError

from curate.encoders.base import EncoderPool
from curate.encoders.conse import ConseConfig
from curate.media.counter import frames_decoded
from curate.media.sample import sample_frames
from curate.rules import Column, Rule
from curate.schema import Failure, FailureKind
from curate.scores.base import Value
from curate.scores.brisque import BrisqueConfig
from curate.scores.config import ScoreConfig, default_scorers
from curate.scores.embedding import EmbeddingConfig
from curate.scores.frames import ClipFrames
from curate.scores.score import Scored, ScoreItem, ScoreStage
from curate.scores.text_match import TextMatchConfig
from curate.select import SelectConfig

FREE = SelectConfig(rules={})


class LumaScorer:
    """Mean of the picture under a given name; `fails` says over which batches it raises, and what."""

    def __init__(self, name: str, fails: Callable[[Sequence[ClipFrames]], Exception | None] = lambda clips: None):
        self.name = self.kind = self.key = name
        self.columns = {name: Column(description="mean of the picture")}
        self.fails = fails
        self.seen: list[int] = []

    def setup(self, encoders: EncoderPool) -> None: ...

    def score(self, clips: Sequence[ClipFrames]) -> list[dict[str, Value]]:
        self.seen.append(len(clips))
        if error := self.fails(clips):
            raise error
        return [{self.name: float(clip.rgb.mean())} for clip in clips]


def stage_of(*scorers: Any, policy: SelectConfig = FREE, **settings: Any) -> ScoreStage:
    stage = ScoreStage(ScoreConfig(scorers={}, num_frames=2, short_side_px=32, **settings), policy)
    stage._scorers = tuple((scorer, scorer) for scorer in scorers)  # each is its own settings
    return stage


def test_each_clip_is_decoded_once_and_gets_its_own_values(stage: ScoreStage, items: list[ScoreItem]) -> None:
    together = stage.process(items)
    for item, scored in zip(items, together, strict=True):
        assert isinstance(scored, Scored)
        assert scored.clip_id == item.clip.clip_id
        before = frames_decoded()
        sample_frames(item.path, item.clip.span, stage.config.num_frames, short_side_px=stage.config.short_side_px)
        assert scored.num_decoded_frames == frames_decoded() - before >= stage.config.num_frames
        assert scored.failures == ()
        assert {family: list(score) for family, score in scored.values.items()} == {
            family: list(columns) for family, columns in stage.families.items()
        }
        assert stage.process([item]) == [scored]


def test_values_are_stored_as_the_families_say(stage: ScoreStage, items: list[ScoreItem]) -> None:
    scored = stage.process(items)
    for family, columns in stage.families.items():
        schema = pa.schema(list(columns.items()))
        rows = [one.values[family] for one in scored if isinstance(one, Scored)]
        assert pa.Table.from_pylist(rows, schema=schema).to_pylist() == rows


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
    assert set(scored.values) == set(stage.families)


@pytest.mark.parametrize(
    "error", [RuntimeError("bad picture"), ValueError("bad size"), ZeroDivisionError("no pixels")]
)
def test_a_clip_that_a_scorer_fails_on_loses_that_family_alone(items: list[ScoreItem], error: Exception) -> None:
    luma = [float(stage_of(LumaScorer("a")).process([item])[0].values.popitem()[1]["a"]) for item in items]  # type: ignore[union-attr]
    guilty = luma[1]

    def over_the_guilty(clips: Sequence[ClipFrames]) -> Exception | None:
        return error if any(abs(clip.rgb.mean() - guilty) < 1e-3 for clip in clips) else None

    stage = stage_of(LumaScorer("before"), LumaScorer("bad", over_the_guilty), LumaScorer("after"))
    before, bad, after = stage.families
    first, failed, last = stage.process(items)
    for scored, families in ((first, {before, bad, after}), (failed, {before, after}), (last, {before, bad, after})):
        assert isinstance(scored, Scored) and set(scored.values) == families
    assert isinstance(failed, Scored)
    (failure,) = failed.failures
    assert (failure.subject, failure.step, failure.kind) == (items[1].clip.clip_id, bad, FailureKind.MODEL)
    assert str(error) in failure.detail
    assert first.failures == last.failures == ()  # type: ignore[union-attr]


def test_a_batch_too_large_for_the_gpu_is_halved_until_it_fits(items: list[ScoreItem]) -> None:
    import torch

    scorer = LumaScorer("x", lambda clips: torch.OutOfMemoryError("full") if len(clips) > 2 else None)
    outcomes = stage_of(scorer).process([*items, *items])
    assert max(scorer.seen) == 6 and sorted(scorer.seen) == [1, 1, 2, 2, 3, 3, 6]
    assert all(isinstance(one, Scored) and len(one.values) == 1 and not one.failures for one in outcomes)


def test_a_gpu_in_disorder_ends_the_worker_and_no_clip_is_blamed(items: list[ScoreItem]) -> None:
    import torch

    with pytest.raises(torch.AcceleratorError):
        stage_of(LumaScorer("x", lambda clips: torch.AcceleratorError("illegal access"))).process(items)


def test_a_value_that_is_no_number_is_a_failure_of_the_model(items: list[ScoreItem]) -> None:
    class DividingScorer(LumaScorer):
        """0 / 0 for the first clip."""

        def score(self, clips: Sequence[ClipFrames]) -> list[dict[str, Value]]:
            return [{self.name: float("nan") if index == 0 else 1.0} for index, _ in enumerate(clips)]

    bad, good = stage_of(DividingScorer("ratio"), LumaScorer("luma")).process(items[:2])
    assert isinstance(bad, Scored) and isinstance(good, Scored)
    (failure,) = bad.failures
    assert failure.kind is FailureKind.MODEL and "ratio" in failure.detail
    assert len(bad.values) == 1 and len(good.values) == 2


def test_early_exit_leaves_out_what_follows_a_broken_rule(items: list[ScoreItem]) -> None:
    scorers = [LumaScorer("sharpness"), LumaScorer("motion"), LumaScorer("luminance")]
    policy = SelectConfig(rules={"motion": Rule(max=-1)})
    stage = stage_of(*scorers, policy=policy, early_exit=True)
    sharpness, motion, _ = stage.families
    for scored in stage.process(items):
        assert isinstance(scored, Scored)
        assert set(scored.values) == {sharpness, motion} and scored.failures == ()


def test_early_exit_does_not_decode_what_is_rejected_already(items: list[ScoreItem]) -> None:
    policy = SelectConfig(rules={"motion": Rule(min=0.5)})
    batch = [replace(items[0], known={"motion": 0.4}), replace(items[1], known={"motion": 0.5})]
    rejected, scored = stage_of(LumaScorer("a"), policy=policy, early_exit=True).process(batch)
    assert rejected == Scored(clip_id=items[0].clip.clip_id, values={}, num_decoded_frames=0)
    assert isinstance(scored, Scored) and len(scored.values) == 1
    everything = stage_of(LumaScorer("a"), policy=policy).process(batch)
    assert all(isinstance(one, Scored) and len(one.values) == 1 for one in everything)


def test_scorers_with_one_encoder_load_it_once_and_show_it_each_frame_once(
    items: list[ScoreItem], embedded_weights: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from curate.encoders import efficientnet

    loads, looks = [], []
    load, features = efficientnet.load_efficientnet_lite0, efficientnet.EfficientNetBackbone.features
    monkeypatch.setattr(efficientnet, "load_efficientnet_lite0", lambda path: loads.append(path) or load(path))  # type: ignore[func-returns-value]

    def counting(self: Any, images: Sequence[np.ndarray]) -> np.ndarray:
        looks.append(len(images))
        return features(self, images)

    monkeypatch.setattr(efficientnet.EfficientNetBackbone, "features", counting)
    stage = ScoreStage(
        ScoreConfig(num_frames=3, scorers={"text_match": TextMatchConfig(), "embedding": EmbeddingConfig()})
    )
    stage.setup()
    stage.process(items)
    assert len(loads) == 1
    assert looks == [3] * len(items)  # clip by clip on a CPU


def test_the_number_of_threads_changes_no_bit(stage: ScoreStage, items: list[ScoreItem]) -> None:
    import cv2
    import torch

    before, outcomes = (torch.get_num_threads(), cv2.getNumThreads()), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            cv2.setNumThreads(threads)
            outcomes.append(stage.process(items))
            assert (torch.get_num_threads(), cv2.getNumThreads()) == (threads, threads)
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
    assert outcomes[0] == outcomes[1]


def test_families_name_everything_that_changes_a_value_and_nothing_else(embedded_weights: None) -> None:
    def families(text_match: TextMatchConfig | None = None, **settings: int) -> tuple[str, ...]:
        config = ScoreConfig(scorers={"text_match": text_match or TextMatchConfig()}, **settings)  # type: ignore[arg-type]
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
    one, other = (ScoreStage(ScoreConfig(scorers={"text_match": config})).families for config in configs)
    assert one.keys() != other.keys()


def test_the_constructor_is_cheap_and_pickles(embedded_weights: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELPACK_CACHE", "/nowhere")
    data = pickle.dumps(ScoreStage(ScoreConfig()))
    monkeypatch.undo()
    assert pickle.loads(data).families == ScoreStage(ScoreConfig()).families


def test_two_scorers_that_would_write_the_same_columns_are_refused() -> None:
    with pytest.raises(ValidationError, match="text_match and rabbits both write the column text_match"):
        ScoreConfig(scorers={"text_match": TextMatchConfig(), "rabbits": TextMatchConfig(wanted=("a rabbit",))})


def test_scorers_run_in_the_order_of_their_declaration_however_they_are_given(embedded_weights: None) -> None:
    given = dict(reversed(default_scorers().items()))
    assert list(ScoreStage(ScoreConfig(scorers=given)).families) == list(ScoreStage(ScoreConfig()).families)


def test_a_scorers_name_is_in_no_family(embedded_weights: None) -> None:
    one, other = (ScoreStage(ScoreConfig(scorers={name: BrisqueConfig()})) for name in ("brisque", "quality"))
    assert one.families == other.families
