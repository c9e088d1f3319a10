import pytest

from train.optimizer import OptimizerConfig, learning_rate


def test_the_rate_rises_linearly_then_falls_to_zero_on_a_cosine():
    config = OptimizerConfig(lr=1.0, warmup_steps=4, schedule="cosine")
    rates = [learning_rate(step, config, 104) for step in range(105)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[54] == pytest.approx(0.5)
    assert rates[104] == pytest.approx(0, abs=1e-12)
    assert rates[4:] == sorted(rates[4:], reverse=True)
