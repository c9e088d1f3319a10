import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.dedup import perceptual
from curate.dedup.components import union
from curate.dedup.config import DedupConfig, PerceptualConfig
from curate.dedup.frame_hash import NO_HASH
from curate.dedup.groups import find_groups
from curate.dedup.neighbors import MAX_PARTNERS, nearest, stable_order
from curate.dedup.perceptual import LAG, MAX_COMPARED, perceptual_pairs

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
    assert union(perceptual_pairs(clips, CONFIG)) == {"a": "a", "b": "a", "c": "a"}


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


def test_the_stricter_distance_holds_below_few_frames_alone() -> None:
    for length, expected in ((CONFIG.few_frames - 1, []), (CONFIG.few_frames, [("a", "b")])):
        clip = random_clip(1, length)
        assert perceptual_pairs(table(a=clip, b=flipped(clip, 5)), CONFIG) == expected, length


def changing(seed: int, length: int, bits: int, every: int = 1) -> np.ndarray:
    """A clip that begins with one picture and changes by some bits every so many ticks."""
    rng = np.random.default_rng(seed)
    clip = [random_clip(0, 1)[0]]
    for tick in range(1, length):
        change = np.bitwise_or.reduce(np.uint64(1) << rng.choice(np.arange(1, 64, dtype=np.uint64), bits, False))
        clip.append(clip[-1] ^ (change if tick % every == 0 else np.uint64(0)))
    return np.array(clip)


def test_a_fast_clip_hashed_at_other_instants_is_found_and_another_shot_from_that_camera_is_not() -> None:
    clip = changing(1, 40, bits=9)
    assert perceptual_pairs(table(a=clip, b=flipped(clip, 9)), CONFIG) == [("a", "b")]
    still, other = changing(2, 40, bits=3, every=6), changing(3, 40, bits=3, every=6)
    apart = np.bitwise_count(still ^ other).mean()
    assert CONFIG.max_distance < apart < CONFIG.max_distance_moving
    assert perceptual_pairs(table(a=still, b=other), CONFIG) == []


def test_pictures_that_hardly_change_do_not_change_at_the_same_moments() -> None:
    """One change, of few bits or of many, in two clips whose frames differ by 9."""
    mask = flipped(np.zeros(1, np.uint64), 9)[0]
    for bits, expected in (
        (perceptual.MIN_CHANGED_BITS // LAG - 1, []),
        (perceptual.MIN_CHANGED_BITS // LAG, [("a", "b")]),
    ):
        clip = np.repeat(changing(5, 2, bits), 10)
        assert perceptual_pairs(table(a=clip, b=clip ^ mask), CONFIG) == expected, bits


def with_flat(clip: np.ndarray, *flat: int) -> np.ndarray:
    """The clip with frames without structure, by number."""
    changed = clip.copy()
    changed[list(flat)] = NO_HASH
    return changed


def test_a_flat_frame_is_unlike_a_picture_and_says_nothing_beside_another_one() -> None:
    clip, mask = random_clip(6, 20), flipped(np.zeros(1, np.uint64), 9)[0]
    half = range(0, 20, 2)
    assert perceptual_pairs(table(a=clip, b=with_flat(clip, *half)), CONFIG) == []
    assert perceptual_pairs(table(a=with_flat(clip, *half), b=with_flat(clip, *half)), CONFIG) == [("a", "b")]
    # Both go flat and come back at the same moments, and nothing else changes.
    still = np.repeat(random_clip(7, 1), 20)
    a, b = (with_flat(one, 8, 9, 10) for one in (still, still ^ mask))
    assert perceptual_pairs(table(a=a, b=b), CONFIG) == []


def test_few_pictures_do_not_change_at_the_same_moments() -> None:
    mask = flipped(np.zeros(1, np.uint64), 9)[0]
    clip = np.repeat(changing(8, 2, 20), LAG)  # one change, of 20 bits
    flat = [tick for tick in range(len(clip)) if tick % LAG]
    assert perceptual_pairs(table(a=clip, b=clip ^ mask), CONFIG) == [("a", "b")]
    assert perceptual_pairs(table(a=with_flat(clip, *flat), b=with_flat(clip ^ mask, *flat)), CONFIG) == []


def test_a_clip_has_its_nearest_partners_alone() -> None:
    number = MAX_PARTNERS + 8
    pairs = np.stack(np.triu_indices(number, 1), 1)
    distances = np.random.default_rng(9).permutation(len(pairs))
    expected = set()
    for clip in range(number):
        own = np.flatnonzero((pairs == clip).any(1))
        expected |= set(own[np.argsort(distances[own])][:MAX_PARTNERS].tolist())
    assert set(np.flatnonzero(nearest(pairs, distances)).tolist()) == expected != set(range(len(pairs)))


def test_a_clip_that_changes_slowly_is_found_by_more_than_its_first_frame() -> None:
    clip = changing(4, 80, bits=1)
    others = {f"x{number}": random_clip(100 + number, 40) for number in range(300)}
    assert perceptual_pairs(table(a=clip, b=clip[14:], **others), CONFIG) == [("a", "b")]


def test_a_film_is_compared_with_its_copy_at_some_of_its_frames() -> None:
    film = random_clip(10, 20 * MAX_COMPARED)
    clips = table(a=film, b=flipped(film[500:], 2), c=random_clip(11, 20 * MAX_COMPARED))
    assert perceptual_pairs(clips, CONFIG) == [("a", "b")]


@pytest.mark.parametrize("num_chunk", [1, 1000])
def test_the_size_of_a_chunk_changes_nothing(num_chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = table(**{f"{number}": flipped(random_clip(number % 7, 12), 2, seed=number) for number in range(40)})
    whole = perceptual_pairs(clips, CONFIG)
    monkeypatch.setattr(perceptual, "CHUNK", num_chunk)
    assert perceptual_pairs(clips, CONFIG) == whole
    assert len(whole) == 40 - 7


def test_copies_are_found_among_thousands_of_clips() -> None:
    rng = np.random.default_rng(12)
    others = {f"x{row}": hashes for row, hashes in enumerate(rng.integers(1, 2**63, (4000, 10), dtype=np.uint64))}
    stills = {f"a{row}": random_clip(row, 1) for row in range(200)}
    copies = {f"b{row}": flipped(random_clip(row, 1), 4, seed=row) for row in range(200)}
    found = perceptual_pairs(table(**others, **stills, **copies), CONFIG)
    assert set(found) <= {(f"a{row}", f"b{row}") for row in range(200)}
    assert len(found) >= 198


def test_frames_without_a_hash_match_nothing() -> None:
    flat = np.full(12, NO_HASH)
    assert perceptual_pairs(table(a=flat, b=flat, c=random_clip(3, 12)), CONFIG) == []
    clip = random_clip(4, 12)
    partly = np.where(np.arange(12) < 4, NO_HASH, clip)
    assert perceptual_pairs(table(a=partly, b=partly), CONFIG) == [("a", "b")]


def test_rows_are_in_order_of_their_keys_and_equal_ones_as_they_were() -> None:
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 2**64, 3000, dtype=np.uint64)
    keys[rng.integers(0, 3000, 900)] = keys[rng.integers(0, 3000, 900)]  # equal ones
    keys[::7] = keys[0] + rng.integers(0, 40, len(keys[::7]), dtype=np.uint64)  # near ones
    for some in (keys, keys[:1], keys[:2], keys[:0]):
        assert stable_order(some).tolist() == np.argsort(some, kind="stable").tolist()


def test_hundreds_of_copies_of_one_clip_are_one_group() -> None:
    clip = random_clip(5, 8)
    clips = table(**{f"{number:03d}": flipped(clip, 2, seed=number) for number in range(300)})
    groups = find_groups(clips, None, DedupConfig())
    assert groups == {f"{number:03d}": "000" for number in range(300)}


@settings(deadline=None, max_examples=25)
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


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("abcdefgh"))))
def test_groups_are_the_connected_components(pairs: list[tuple[str, str]]) -> None:
    reach = {name: {name} for pair in pairs for name in pair}
    for _ in range(8):
        for one, other in pairs:
            joined = reach[one] | reach[other]
            for name in joined:
                reach[name] = joined
    assert union(pairs) == {name: min(members) for name, members in reach.items()}


def test_a_copy_is_found_among_hundreds_of_clips_of_one_layout() -> None:
    layout = random_clip(13, 1).repeat(12)
    crowd = {}
    for number in range(300):
        own = flipped(layout[:1], 6, seed=number)[0] ^ layout[0]
        crowd[f"{number:03d}"] = flipped(layout ^ own, 2, seed=1000 + number)
    crowd["copy"] = flipped(crowd["123"], 2)
    assert perceptual_pairs(table(**crowd), CONFIG) == [("123", "copy")]
