import pytest
import torch

from train.optim.ema import EMA
from train.run.config import EMAConfig


def test_what_runs_under_autocast_is_the_average():
    model, x = torch.nn.Linear(3, 2), torch.ones(1, 3)
    ema = EMA(model, EMAConfig(decay=0.9))
    with torch.no_grad():
        model.weight.add_(1)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            own = model(x)
            with ema.applied_to(model):
                average = model(x)
            assert torch.equal(model(x), own)
    torch.testing.assert_close(average.float(), own.float() - 3, atol=0.05, rtol=0)


def test_early_steps_forget_the_first_weights():
    """(1 + n) / (10 + n) until that is the decay: 0.1 after the first step, 0.9 from step 80 on."""
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    ema = EMA(model, EMAConfig(decay=0.9))
    torch.nn.init.ones_(model.weight)
    for step, left in ((0, 0.1), (1, 0.1 * 2 / 11), (100, 0.1 * 2 / 11 * 0.9)):
        ema.update(model, step)
        assert 1 - float(ema.average["weight"]) == pytest.approx(left, rel=1e-5)


def test_the_average_follows_the_recursion_and_is_given_back():
    model = torch.nn.Linear(3, 2)
    ema = EMA(model, EMAConfig(decay=0.9))
    expected = model.weight.detach().clone()
    for step in range(200):
        with torch.no_grad():
            model.weight.add_(torch.randn(2, 3))
        ema.update(model, step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.weight.detach()
    torch.testing.assert_close(ema.average["weight"], expected)
    own = model.weight.detach().clone()
    with ema.applied_to(model):
        torch.testing.assert_close(model.weight.detach(), expected)
    assert torch.equal(model.weight, own)
