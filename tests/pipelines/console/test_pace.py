"""The remaining time is shown when it is known within about a factor of two: by an artificial clock."""

import random
from collections.abc import Sequence
from itertools import accumulate

import pytest

from pipelines.console.pace import Pace

DRAW = random.Random(0)
RUNS = {
    "steady": ([1.0] * 200, None, 0),
    "weights are loaded first": ([0.5] * 400, None, 60),
    "the first item compiles": ([30] + [0.5] * 400, None, 0),
    "it warms up": ([5, 4, 3, 2, 1.5, 1.2] + [1.0] * 300, None, 10),
    "items are of all lengths": ([DRAW.lognormvariate(0, 1) for _ in range(300)], None, 5),
    "the second half takes twice as long": ([0.5] * 200 + [1.0] * 200, None, 0),
    "one long item comes last": ([0.5] * 100 + [300], [1.0] * 100 + [600], 0),
    "six long items that move": ([60.0] * 6, [1.0] * 6, 5),
}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def run(
    seconds: Sequence[float], amounts: Sequence[float] | None, start_s: float
) -> list[tuple[float, float | None, float]]:
    """Moment, seconds left as told and in truth, four times a second. Items whose amounts are given move inside."""
    clock, ends = Clock(), [start_s + end for end in accumulate(seconds)]
    pace = Pace(sum(amounts or [1.0] * len(seconds)), clock)
    told = []
    while clock.now + 0.25 < ends[-1]:
        clock.now += 0.25
        done, begin = 0.0, start_s
        for number, end in enumerate(ends):
            amount = amounts[number] if amounts else 1.0
            if end > clock.now:
                done += amount * max(0.0, clock.now - begin) / (end - begin) if amounts else 0.0
                break
            done, begin = done + amount, end
        pace.reach(done)
        told.append((clock.now, pace.left_s(), ends[-1] - clock.now))
    return told


@pytest.mark.parametrize("name", RUNS)
def test_time_left_is_told_within_a_factor_of_two_and_early_enough(name: str) -> None:
    told = run(*RUNS[name])
    shown = [(now, left, truth) for now, left, truth in told if left is not None]
    assert shown[0][0] < 0.4 * told[-1][0]
    assert all(truth / 2 - 1 <= left <= 2 * truth + 3 for _, left, truth in shown)


def test_nothing_is_told_of_items_of_which_few_ended_or_that_scatter() -> None:
    assert all(left is None for _, left, _ in run([60.0] * 6, None, 0))
    wild = random.Random(1)
    told = run([wild.lognormvariate(0, 2.5) for _ in range(60)], None, 0)
    assert all(left is None for _, left, _ in told[: len(told) // 4])


def test_the_rate_is_that_of_the_last_half_minute_and_needs_some_time() -> None:
    clock = Clock()
    pace = Pace(1e6, clock)
    assert pace.rate() is None
    for clock.now in (0.0001, 0.0002, 1.0):
        pace.reach(11)
        assert pace.rate() is None, "eleven at once are no 100,000 per second"
    for second in range(2, 201):
        clock.now = second
        pace.reach(pace.done + (1 if second <= 100 else 5))
    assert pace.rate() == pytest.approx(5)
    for clock.now in range(201, 260):
        pace.reach(pace.done)
    assert pace.rate() == 0, "it stands still"


def test_what_was_done_does_not_become_less_and_ends_at_the_total() -> None:
    pace = Pace(10)
    for given, done in ((4, 4), (3, 4), (25, 10)):
        pace.reach(given)
        assert pace.done == done


def test_a_long_run_keeps_few_samples_and_its_beginning() -> None:
    clock = Clock()
    pace = Pace(1e6, clock)
    for clock.now in range(20_000):
        pace.reach(clock.now)
    assert len(pace._samples) < 600
    assert pace.rate() == pytest.approx(1, rel=0.1)
    assert pace.left_s() == pytest.approx(1e6 - 20_000, rel=0.05)


def left_after(moves: dict[float, float], now: float) -> float | None:
    """Seconds left of 1,000 at a moment, after `moves`: seconds → done."""
    clock = Clock()
    pace = Pace(1000, clock)
    for clock.now, done in moves.items():
        pace.reach(done)
    clock.now = now
    pace.reach(pace.done)
    return pace.left_s()


def test_each_reason_not_to_know_is_one_by_itself() -> None:
    assert left_after({second: second for second in range(1, 21)}, 20) == pytest.approx(980, rel=0.1)
    assert left_after({second: second for second in range(1, 10)}, 9) is None, "too early"
    assert left_after({second: second for second in (5, 10, 15, 20)}, 20) is None, "few moves"
    slower = {s: 3.0 * s for s in range(1, 21)} | {s: 60.0 + (s - 20) for s in range(21, 41)}
    assert left_after(slower, 40) is None, "a third of the rate of the beginning"
    bursts = {1 + s / 10: 1 + s for s in range(10)} | {21 + s / 10: 11 + s for s in range(10)}
    bursts |= {20.9: 10.0}
    assert left_after(dict(sorted(bursts.items())), 40) is None, "two bursts"
