import numpy as np
import pytest

from train.clip.recall import recall

EYE = np.eye(6, dtype=np.float32)
OWN = np.eye(6, dtype=bool)


def test_vectors_that_match_find_each_other() -> None:
    found = recall(EYE, EYE, OWN)
    assert found.at == {1: 1.0, 5: 1.0, 10: 1.0} and found.median_rank == 1
    low, high = found.interval[1]
    assert (low, high) == (pytest.approx(0.610, abs=1e-3), pytest.approx(1.0))  # of six hits in six, by the tables


def test_ranks_are_those_that_are_counted_by_hand() -> None:
    """The right candidate of query i is i; similarities say 1st, 2nd, 3rd."""
    similar = np.array([[0.9, 0.1, 0.2], [0.5, 0.4, 0.1], [0.3, 0.2, 0.1]], np.float32)
    found = recall(similar, np.eye(3, dtype=np.float32), np.eye(3, dtype=bool), at=(1, 2))
    assert found.at == {1: pytest.approx(1 / 3), 2: pytest.approx(2 / 3)}
    assert found.median_rank == 2


def test_vectors_that_are_all_equal_find_nothing() -> None:
    same = np.ones((6, 6), np.float32) / np.sqrt(6).astype(np.float32)
    found = recall(same, same, OWN)
    assert found.at[1] == found.at[5] == 0 and found.median_rank == 6


def test_any_right_candidate_counts() -> None:
    matches = OWN.copy()
    matches[0, 1] = True  # clip 1 is said by text 0, too
    queries = EYE.copy()
    queries[0] = EYE[1]
    assert recall(queries, EYE, matches).at[1] == 1.0
    assert recall(queries, EYE, OWN).at[1] == pytest.approx(5 / 6)


def test_chance_is_what_random_orders_give() -> None:
    rng = np.random.default_rng(0)
    matches = np.zeros((2, 8), bool)
    matches[0, :3] = matches[1, 3] = True
    drawn = [recall(rng.random((2, 8)), np.eye(8), matches, at=(1, 3)).at for _ in range(400)]
    chance = recall(rng.random((2, 8)), np.eye(8), matches, at=(1, 3)).chance
    for k in (1, 3):
        assert np.mean([one[k] for one in drawn]) == pytest.approx(chance[k], abs=0.08)


def test_the_interval_is_wider_with_fewer_queries() -> None:
    def width(num: int) -> float:
        queries = np.concatenate([np.eye(num)[: num // 2], np.roll(np.eye(num), 1, 0)[num // 2 :]])
        low, high = recall(queries, np.eye(num), np.eye(num, dtype=bool)).interval[1]
        assert low < 0.5 < high
        return high - low

    assert width(10) > 2 * width(100)
