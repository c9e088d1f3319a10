import pytest

from train.model.dit import DiT
from train.model.dit_config import DiTConfig
from train.optim.optimizer import build_optimizer, learning_rate
from train.run.config import OptimizerConfig


def test_labels_and_learned_positions_do_not_decay():
    config = DiTConfig(width=32, depth=1, num_heads=2, num_classes=3, position="absolute", max_grid=(2, 4, 4))
    model = DiT(config, channels=4, text_dim=12)
    decaying, still = build_optimizer(model, OptimizerConfig(weight_decay=0.1)).param_groups
    assert (decaying["weight_decay"], still["weight_decay"]) == (0.1, 0.0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {names[id(parameter)] for parameter in decaying["params"]}
    assert "embed.weight" in found and not [name for name in found if "table" in name or "null" in name]
    assert len(decaying["params"]) + len(still["params"]) == len(names)


def test_the_rate_rises_linearly_then_falls_to_zero_on_a_cosine():
    config = OptimizerConfig(lr=1.0, warmup_steps=4, schedule="cosine")
    rates = [learning_rate(step, config, 104) for step in range(105)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[54] == pytest.approx(0.5)
    assert rates[104] == pytest.approx(0, abs=1e-12)
    assert rates[4:] == sorted(rates[4:], reverse=True)
