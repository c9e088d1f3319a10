import torch

from train.ema import EMA, EMAConfig


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
