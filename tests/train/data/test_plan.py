from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.data.plan import PlanConfig, pack_epoch, planned_steps

corpora = st.lists(st.integers(1, 120), min_size=1, max_size=200)
configs = st.builds(PlanConfig, token_budget=st.integers(60, 200), pool_size=st.integers(1, 40))


@given(corpora, configs, st.integers(0, 9), st.integers(0, 3))
def test_every_sample_is_met_exactly_once_and_no_pack_exceeds_the_budget(tokens, config, seed, epoch):
    packs = pack_epoch(tokens, seed, epoch, config)
    assert sorted(i for pack in packs for i in pack) == list(range(len(tokens)))
    for pack in packs:
        assert sum(tokens[i] for i in pack) <= config.token_budget or len(pack) == 1
    assert packs == pack_epoch(tokens, seed, epoch, config)


@given(corpora, configs)
def test_a_pack_is_closed_only_when_no_waiting_sample_fits(tokens, config):
    packs = pack_epoch(tokens, 0, 0, config)
    for pack, following in pairwise(packs):
        total = sum(tokens[i] for i in pack)
        assert total + tokens[following[0]] > config.token_budget


def test_epochs_and_seeds_reshuffle():
    tokens, config = list(range(1, 60)), PlanConfig(token_budget=100)
    plans = [pack_epoch(tokens, seed, epoch, config) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert plans[0] != plans[1] and plans[0] != plans[2] and plans[1] != plans[2]


def test_a_sample_above_the_budget_is_named_where_it_is_refused():
    with pytest.raises(ValueError, match=r"row 1 has 900 tokens .*own_pack"):
        pack_epoch([5, 900, 7], 0, 0, PlanConfig(token_budget=100, oversize="refuse"))


@given(corpora, configs, st.integers(1, 5), st.integers(0, 20))
def test_steps_from_the_middle_are_the_steps_of_the_whole(tokens, config, packs_per_step, first):
    config = config.model_copy(update={"packs_per_step": packs_per_step})
    tokens = np.array(tokens)
    whole = list(islice(planned_steps(tokens, 3, config), first + 3))
    assert list(islice(planned_steps(tokens, 3, config, first), 3)) == whole[first:]
    assert all(len(step) == packs_per_step for step in whole)
