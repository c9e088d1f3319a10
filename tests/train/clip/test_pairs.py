from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from tests.train.clip.conftest import Made
from train.clip.pairs import CaptionedClip, Pair, Pairs, shared


def clip(name: str, *, is_held_out: bool = False, **texts: tuple[str, ...]) -> CaptionedClip:
    place = {"shard": "train-000000.tar", "offset": 512, "size": 1, "digest": None}
    return CaptionedClip(clip_id=name, texts=texts, is_held_out=is_held_out, **place)  # type: ignore[arg-type]


CLIPS = [clip(f"{number:02d}", short=(f"text {number}",)) for number in range(10)]


def test_each_clip_is_in_an_epoch_once_at_most_and_epochs_differ() -> None:
    pairs = Pairs(CLIPS, {"short": 1})
    orders = []
    for epoch in (0, 1):
        batches = list(pairs.epoch(epoch, 4, seed=0))
        assert [len(batch) for batch in batches] == [4, 4] and pairs.steps_per_epoch(4) == 2
        orders.append([pair.clip.clip_id for batch in batches for pair in batch])
        assert len(set(orders[-1])) == 8
    assert orders[0] != orders[1]


def test_an_epoch_is_a_function_of_seed_and_number_and_not_of_the_order_of_clips() -> None:
    given, other = Pairs(CLIPS, {"short": 1}), Pairs(CLIPS[::-1], {"short": 1})
    assert list(given.epoch(3, 4, seed=1)) == list(other.epoch(3, 4, seed=1))
    assert list(given.epoch(3, 4, seed=1)) != list(given.epoch(3, 4, seed=2))


def test_levels_are_drawn_by_their_weights_among_those_that_a_clip_has() -> None:
    both = [clip(f"{n:03d}", short=("s",), dense=("d.1", "d.2")) for n in range(400)]
    drawn = Counter(pair.text for batch in Pairs(both, {"short": 1, "dense": 3}).epoch(0, 400, 0) for pair in batch)
    assert drawn["s"] == pytest.approx(100, abs=30) and drawn["d.1"] == pytest.approx(150, abs=35)
    (batch,) = Pairs([clip("a", short=("s",)), clip("b", dense=("d",))], {"short": 1, "dense": 9}).epoch(0, 2, 0)
    assert {pair.text for pair in batch} == {"s", "d"}


def test_clips_that_say_the_same_are_found_whichever_caption_is_drawn() -> None:
    one, two, three = clip("1", short=("A dog",)), clip("2", short=("x",), dense=("a  DOG",)), clip("3", short=("y",))
    pairs = [Pair(clip=one, text="A dog"), Pair(clip=two, text="x"), Pair(clip=three, text="y")]
    expected = np.eye(3, dtype=bool)
    expected[0, 1] = expected[1, 0] = True
    np.testing.assert_array_equal(shared(pairs), expected)


def test_held_out_clips_measure_and_do_not_train() -> None:
    pairs = Pairs([*CLIPS[:5], *(replace(one, is_held_out=True) for one in CLIPS[5:])], {"short": 1})
    trained = {pair.clip.clip_id for batch in pairs.epoch(0, 5, 0) for pair in batch}
    measured = [pair.clip.clip_id for pair in pairs.measured(4)]
    assert trained.isdisjoint(measured) and len(measured) == 4
    assert pairs.measured(4) == pairs.measured(4)


def test_what_is_missing_is_told_with_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"none of the 10 clips has a caption of dense .*`reelpack caption`"):
        Pairs(CLIPS, {"dense": 1}).steps_per_epoch(2)
    with pytest.raises(ValueError, match=r"all 10 captioned clips are held out; lower select\.split\.val_fraction"):
        Pairs([replace(one, is_held_out=True) for one in CLIPS], {"short": 1}).steps_per_epoch(2)
    with pytest.raises(ValueError, match=r"batch_size=64, and the train split has 10 .* lower it to at most 10"):
        Pairs(CLIPS, {"short": 1}).steps_per_epoch(64)


def test_the_key_names_texts_and_bytes() -> None:
    key = Pairs(CLIPS, {"short": 1}).key
    assert Pairs(CLIPS[::-1], {"short": 1}).key == key
    for other in (replace(CLIPS[0], texts={"short": ("else",)}), replace(CLIPS[0], digest="else")):
        assert Pairs([other, *CLIPS[1:]], {"short": 1}).key != key


def test_frames_are_spread_over_the_clip_and_scaled_down(made: Made) -> None:
    from train.clip.pairs import FrameReader

    frames = FrameReader(str(made.shards), 2, 32).read(made.clips[0])
    assert [frame.shape for frame in frames] == [(32, 32, 3)] * 2 and frames[0].dtype == np.uint8
    assert not np.array_equal(frames[0], frames[1])
    all_of_it = FrameReader(str(made.shards), 99, 16).read(made.clips[0])
    assert [frame.shape for frame in all_of_it] == [(16, 16, 3)] * 4
