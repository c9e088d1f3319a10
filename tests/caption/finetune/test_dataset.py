import itertools
from collections import Counter
from collections.abc import Mapping

import numpy as np
import pytest

from caption.finetune.config import StageConfig, Task
from caption.finetune.dataset import Clip, ClipData, Question
from curate.media.decode import decode_clip

STAGE = StageConfig(name="one", lr={"projector": 1e-3}, tasks={"short": 1, "dense": 3}, epochs=1, batch_size=4)


def clip(number: int, *, is_held_out: bool = False, tasks: tuple[Task, ...] = ("short", "dense")) -> Clip:
    texts: Mapping[Task, tuple[Question, ...]] = {
        task: (Question(prompt=f"{task}?", answer=f"{task} {'x' * (number % 7)} {number}"),) for task in tasks
    }
    return Clip(clip_id=f"{number:03}", shard="s", offset=0, size=1, texts=texts, is_held_out=is_held_out)


def data(clips: list[Clip], root: str = ".") -> ClipData:
    return ClipData(clips, root, lambda data: decode_clip(data, num_frames=2).rgb)


def passes(of: ClipData, number: int, seed: int, stage: StageConfig = STAGE) -> list:
    batches = of.batches(stage, 0, seed)
    return [[*itertools.chain(*itertools.islice(batches, of.num_batches(stage)))] for _ in range(number)]


def test_a_pass_asks_every_training_clip_once_and_no_held_out_one() -> None:
    of = data([clip(number, is_held_out=number % 5 == 0) for number in range(50)])
    for asked in passes(of, 3, 0):
        assert sorted(int(one.clip.clip_id) for one in asked) == [n for n in range(50) if n % 5]
    assert {int(one.clip.clip_id) % 5 for one in of.held_out("short", 99)} == {0}
    assert len(of.held_out("short", 3)) == 3


def test_batches_follow_from_the_seed_and_not_from_the_order_of_the_clips() -> None:
    clips = [clip(number) for number in range(30)]
    assert passes(data(clips), 2, 1) == passes(data(clips[::-1]), 2, 1)
    assert passes(data(clips), 2, 1) != passes(data(clips), 2, 2)
    first, second = passes(data(clips), 2, 1)
    assert first != second


def test_tasks_are_drawn_by_their_weights_among_those_a_clip_has() -> None:
    of = data([clip(number, tasks=("short",) if number < 10 else ("short", "dense")) for number in range(110)])
    asked = list(itertools.chain(*passes(of, 10, 0)))
    counts = Counter(one.question.prompt for one in asked if int(one.clip.clip_id) >= 10)
    assert 0.70 < counts["dense?"] / counts.total() < 0.80
    assert {one.question.prompt for one in asked if int(one.clip.clip_id) < 10} == {"short?"}


def test_batches_hold_texts_of_like_length() -> None:
    of = data([clip(number) for number in range(64)])
    lengths = [
        [len(one.question.prompt + one.question.answer) for one in batch]
        for batch in itertools.islice(of.batches(STAGE, 0, 0), 16)
    ]
    assert np.mean([max(batch) - min(batch) for batch in lengths]) < 2
    assert [batch[0] for batch in lengths] != sorted(batch[0] for batch in lengths)


def test_a_stage_without_texts_says_which_tasks_there_are() -> None:
    of = data([clip(1), clip(2, is_held_out=True)])
    stage = STAGE.model_copy(update={"tasks": {"human": 1.0}})
    with pytest.raises(ValueError, match=r"none of the 1 clips .* has a text for human \(they have dense, short\)"):
        of.num_batches(stage)


def test_clips_are_read_from_their_shards_and_a_broken_one_is_left_out(shards) -> None:
    clips = [
        Clip(
            clip_id=key, shard=member.shard, offset=member.offset, size=member.size,
            texts={"short": (Question(prompt="?", answer=key),)},
        )
        for key, member in shards.members.items()
    ]  # fmt: skip
    of = data(clips, shards.root)
    (asked,) = passes(of, 1, 0)
    samples = of.load(asked)
    assert sorted(sample.answer for sample in samples) == sorted(set(shards.members) - {"broken"})
    for sample in samples:
        assert sample.images.shape == (1 if sample.answer == "still" else 2, 48, 64, 3)


def test_the_key_changes_with_texts_and_splits() -> None:
    keys = {
        data(clips).key
        for clips in (
            [clip(1), clip(2)],
            [clip(1), clip(3)],
            [clip(1), clip(2, tasks=("short",))],
            [clip(1), clip(2, is_held_out=True)],
        )
    }
    assert len(keys) == 4 and data([clip(2), clip(1)]).key in keys
