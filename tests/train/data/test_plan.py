from itertools import chain, count, islice, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.data.plan import Counts, Cursor, PlanConfig, Planner, best_fill, idle_share

corpora = st.lists(st.integers(1, 120), min_size=1, max_size=200)
configs = st.builds(
    PlanConfig,
    token_budget=st.integers(60, 200),
    pool_size=st.integers(1, 40),
    packs_per_step=st.integers(1, 6),
    balance_group=st.sampled_from([None, 1]),
    window_samples=st.integers(16, 80),
    block_samples=st.integers(1, 16),
    pair_cost=st.floats(0, 0.1),
)


def planner(tokens, config: PlanConfig, seed: int = 0) -> Planner:
    return Planner(Counts(num_tokens=np.array(tokens)), seed, config)


@given(corpora, configs, st.integers(0, 9), st.integers(0, 3))
def test_every_sample_is_met_exactly_once_and_no_pack_exceeds_the_budget(tokens, config, seed, epoch):
    packs = planner(tokens, config, seed).epoch(epoch)
    assert sorted(sample.row for pack in packs for sample in pack) == list(range(len(tokens)))
    for pack in packs:
        assert all(sample.num_tokens == tokens[sample.row] and sample.occurrence == 0 for sample in pack)
        assert sum(sample.num_tokens for sample in pack) <= config.token_budget or len(pack) == 1
    assert packs == planner(tokens, config, seed).epoch(epoch)


@given(corpora, configs)
def test_a_pack_is_closed_only_when_no_waiting_sample_fits(tokens, config):
    for pack, following in pairwise(best_fill(tokens, config)):
        assert sum(tokens[i] for i in pack) + tokens[following[0]] > config.token_budget


def test_epochs_and_seeds_reshuffle():
    config = PlanConfig(token_budget=100)
    plans = [planner(range(1, 60), config, seed).epoch(epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert plans[0] != plans[1] and plans[0] != plans[2] and plans[1] != plans[2]


@given(corpora, configs, st.integers(0, 20))
def test_a_run_goes_on_at_its_cursor_as_if_it_had_not_stopped(tokens, config, first):
    plan = planner(tokens, config, 3)
    whole = list(islice(plan.steps(), first + 3))
    cursor = whole[first - 1].next if first else Cursor()
    assert list(islice(plan.steps(cursor), 3)) == whole[first:]
    assert all(len(step.packs) == config.packs_per_step for step in whole)


@given(corpora, configs)
def test_steps_are_the_epochs_one_after_the_other(tokens, config):
    plan = planner(tokens, config)
    packs = [pack.samples for step in islice(plan.steps(), 30) for pack in step.packs]
    epochs = chain.from_iterable(plan.epoch(epoch) for epoch in count())
    assert packs == list(islice(epochs, len(packs)))


@given(corpora, configs, st.integers(0, 20))
def test_the_mean_step_is_a_constant_of_the_plan_wherever_a_run_goes_on(tokens, config, first):
    plan = planner(tokens, config)
    list(islice(plan.steps(), first))
    assert plan.mean_step == planner(tokens, config).mean_step
    if plan.num_windows == 1:
        packs = plan.epoch(0)
        num_steps = len(packs) / config.packs_per_step
        assert plan.mean_step == pytest.approx((len(tokens) / num_steps, sum(tokens) / num_steps))


def mixed(num_samples: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    video = np.exp(rng.normal(np.log(3000), 0.8, num_samples)).clip(200, 16_000)
    return np.where(rng.random(num_samples) < 0.35, rng.integers(200, 600, num_samples), video).astype(int)


def test_ranks_side_by_side_get_packs_of_like_cost_and_a_step_is_a_mixture():
    config = PlanConfig(token_budget=16_384, packs_per_step=32, balance_group=8, pair_cost=1 / (6 * 1152))
    plan = planner(mixed(20_000), config)
    packs = [[sample.num_tokens for sample in pack] for pack in plan.epoch(0)]
    costs = plan.costs(packs)
    assert idle_share(costs, 8) < 0.05
    shuffled = np.random.default_rng(1).permutation(costs)
    assert idle_share(shuffled, 8) > 0.12, "what packs as they come would cost"
    steps = costs[: len(costs) // 32 * 32].reshape(-1, 4, 8).mean(2)
    assert (steps.std(1) / steps.mean(1)).mean() > 0.5 * costs.std() / costs.mean(), "groups of a step are unlike"


def test_a_group_that_does_not_divide_a_step_is_refused_and_none_is_chosen_that_does():
    with pytest.raises(ValueError, match=r"got balance_group=8 and packs_per_step=11; expected a divisor"):
        PlanConfig(packs_per_step=11, balance_group=8)
    chosen = {packs: PlanConfig(packs_per_step=packs).group for packs in (1, 2, 8, 12, 32, 256)}
    assert chosen == {1: 1, 2: 2, 8: 8, 12: 6, 32: 8, 256: 64}


@pytest.mark.parametrize(
    ("group", "num_ranks", "warns"), [(8, 64, True), (64, 64, False), (64, 8, False), (8, 3, True)]
)
def test_ranks_that_groups_do_not_divide_among_are_warned_of_waiting(
    caplog: pytest.LogCaptureFixture, group: int, num_ranks: int, warns: bool
):
    config = PlanConfig(packs_per_step=256, balance_group=group, pair_cost=1 / (6 * 1152))
    plan = planner(mixed(20_000), config)
    plan.warn_of_idle(num_ranks)
    assert [f"among {num_ranks} ranks" in record.message for record in caplog.records] == [True] * warns


def test_idle_share_is_the_time_that_ranks_wait():
    assert idle_share(np.array([1.0, 1.0, 3.0, 1.0]), 2) == pytest.approx(1 - (1 + 2) / (1 + 3))


def test_a_window_of_a_huge_manifest_is_planned_without_reading_the_rest():
    class Huge:
        asked = 0

        def __len__(self) -> int:
            return 100_000_000

        def in_epoch(self, rows, epoch):
            self.asked += len(rows)
            return np.ones(len(rows), np.int64), 200 + rows % 3000

    samples = Huge()
    step = next(Planner(samples, 0, PlanConfig(packs_per_step=8, window_samples=4096)).steps())
    assert samples.asked == 4096
    assert len({sample.row // 1024 for pack in step.packs for sample in pack.samples}) > 1


def test_rows_that_an_epoch_repeats_are_told_apart_and_rows_that_it_leaves_out_are_not_met():
    class Weighted:
        def __len__(self) -> int:
            return 4

        def in_epoch(self, rows, epoch):
            return np.array([0, 1, 3, 2])[rows], np.full(len(rows), 10)

    (packs,) = [Planner(Weighted(), 0, PlanConfig(token_budget=1000)).epoch(0)]
    met = sorted((sample.row, sample.occurrence) for pack in packs for sample in pack)
    assert met == [(1, 0), (2, 0), (2, 1), (2, 2), (3, 0), (3, 1)]


@pytest.mark.parametrize(("num_blocks", "every"), [(1, 7), (3, 1), (6, 1), (4, 5), (8, 20)])
def test_windows_and_epochs_that_meet_nothing_are_passed_over(num_blocks: int, every: int):
    """Each block is a window; only the first one's rows are met, and only in every so many epochs: it may come first
    in one of them, and last in the next."""

    class Rare:
        def __len__(self) -> int:
            return 2 * num_blocks

        def in_epoch(self, rows, epoch):
            return ((rows < 2) & (epoch % every == 0)).astype(np.int64), np.full(len(rows), 10)

    plan = Planner(Rare(), 0, PlanConfig(token_budget=10, window_samples=2, block_samples=2))
    steps = list(islice(plan.steps(), 40))
    met = [(pack.epoch, sample.row) for step in steps for pack in step.packs for sample in pack.samples]
    assert sorted(met) == [(every * i, row) for i in range(20) for row in (0, 1)]
    for at in (0, 1, 18):
        assert next(plan.steps(steps[at].next)).packs == steps[at + 1].packs


def test_an_epoch_that_meets_nothing_is_an_error_and_no_endless_loop():
    class Nothing:
        def __len__(self) -> int:
            return 3

        def in_epoch(self, rows, epoch):
            return np.zeros(len(rows), np.int64), np.ones(len(rows), np.int64)

    with pytest.raises(ValueError, match="meets no sample"):
        next(Planner(Nothing(), 0, PlanConfig()).steps())


def test_a_cursor_beyond_the_end_of_a_smaller_dataset_is_refused():
    config = PlanConfig(token_budget=100, window_samples=10, block_samples=5)
    cursor = next(step.next for step in planner([50] * 100, config).steps() if step.next.window == 9)
    with pytest.raises(ValueError, match=r"cursor in window 9.*of an epoch that has 3.*larger dataset"):
        next(planner([50] * 30, config).steps(cursor))
