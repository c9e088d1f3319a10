import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from curate.dedup.config import DedupConfig, PerceptualConfig
from curate.dedup.frame_hash import NO_HASH
from curate.dedup.groups import find_groups, union
from curate.dedup.perceptual import perceptual_pairs

CONFIG = PerceptualConfig()


def random_clip(seed: int, length: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 2**63, length, dtype=np.uint64)


def flipped(hashes: np.ndarray, bits: int, seed: int = 0) -> np.ndarray:
    """The clip with `bits` random bits of each frame changed."""
    rng = np.random.default_rng(seed)
    changed = hashes.copy()
    for row in range(len(changed)):
        for bit in rng.choice(np.arange(1, 64), bits, replace=False):
            changed[row] ^= np.uint64(1) << np.uint64(bit)
    return changed


def table(**clips: np.ndarray) -> pa.Table:
    rows = [{"clip_id": name, "frame_hashes": hashes.astype("<u8").tobytes()} for name, hashes in clips.items()]
    return pa.Table.from_pylist(rows, pa.schema([("clip_id", pa.string()), ("frame_hashes", pa.binary())]))


def test_a_slightly_changed_and_trimmed_copy_is_found_and_another_clip_is_not() -> None:
    clip = random_clip(1, 20)
    clips = table(a=clip, b=flipped(clip, 3), c=flipped(clip[2:], 3, seed=1), d=random_clip(2, 20))
    assert set(perceptual_pairs(clips, CONFIG)) == {("a", "b"), ("a", "c"), ("b", "c")}


def test_a_part_of_a_clip_is_no_copy_of_it() -> None:
    clip = random_clip(1, 20)
    assert perceptual_pairs(table(a=clip, b=clip[:12]), CONFIG) == []


def test_the_same_frames_in_another_order_are_another_clip() -> None:
    clip = random_clip(1, 20)
    assert perceptual_pairs(table(a=clip, b=clip[::-1].copy()), CONFIG) == []


def test_few_frames_need_stricter_evidence() -> None:
    still = random_clip(1, 1)
    assert perceptual_pairs(table(a=still, b=flipped(still, 4)), CONFIG) == [("a", "b")]
    assert perceptual_pairs(table(a=still, b=flipped(still, 8)), CONFIG) == []


def test_frames_without_a_hash_match_nothing() -> None:
    flat = np.full(12, NO_HASH)
    assert perceptual_pairs(table(a=flat, b=flat, c=random_clip(3, 12)), CONFIG) == []
    clip = random_clip(4, 12)
    partly = np.where(np.arange(12) < 4, NO_HASH, clip)
    assert perceptual_pairs(table(a=partly, b=partly), CONFIG) == [("a", "b")]


def test_hundreds_of_copies_of_one_clip_are_one_group() -> None:
    clip = random_clip(5, 8)
    clips = table(**{f"{number:03d}": flipped(clip, 2, seed=number) for number in range(300)})
    groups = find_groups(clips, None, DedupConfig())
    assert groups == {f"{number:03d}": "000" for number in range(300)}


@given(st.permutations(range(6)))
def test_the_order_of_rows_changes_nothing(order: list[int]) -> None:
    clip, other = random_clip(6, 10), random_clip(7, 9)
    clips = table(a=clip, b=flipped(clip, 5), c=other, d=flipped(other, 3), e=random_clip(8, 10), f=clip[1:])
    assert find_groups(clips.take(order), None, DedupConfig()) == {"a": "a", "b": "a", "f": "a", "c": "c", "d": "c"}


def test_mirror_images_are_copies_by_option_only() -> None:
    from curate.dedup.frame_hash import mirrored

    clip = random_clip(9, 10)
    clips = table(a=clip, b=flipped(mirrored(clip), 3))
    assert perceptual_pairs(clips, CONFIG) == []
    assert perceptual_pairs(clips, PerceptualConfig(mirrored=True)) == [("a", "b")]


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("abcdefgh"))))
def test_groups_are_the_connected_components(pairs: list[tuple[str, str]]) -> None:
    reach = {name: {name} for pair in pairs for name in pair}
    for _ in range(8):
        for one, other in pairs:
            joined = reach[one] | reach[other]
            for name in joined:
                reach[name] = joined
    assert union(pairs) == {name: min(members) for name, members in reach.items()}
