from collections.abc import Callable

import pytest
import torch

from tests.train.model.conftest import packed
from train.model.align import Projector, alignment_loss
from train.model.dit import DiT
from train.packing.batch import Sample


@pytest.mark.parametrize("pooled", [True, False])
def test_alignment_of_a_pack_is_that_of_its_samples(redrawn: Callable[..., DiT], mixed_samples: list[Sample], pooled):
    model, projector = redrawn(conditioning="in_context"), Projector(48, 7, hidden=20)

    def projected(samples: list[Sample]) -> torch.Tensor:
        batch = packed(model, samples)
        _, features = model(batch.tokens, batch.timesteps, batch, features_of=1)
        return projector(batch.segments.mean(features) if pooled else features)

    together, alone = projected(mixed_samples), torch.cat([projected([sample]) for sample in mixed_samples])
    targets = torch.randn(len(together), 7)
    losses = alignment_loss(together, targets)
    torch.testing.assert_close(losses, alignment_loss(alone, targets), atol=1e-5, rtol=0)
    grads = [
        torch.autograd.grad(x, model.embed.weight)[0] for x in (losses.sum(), alignment_loss(alone, targets).sum())
    ]
    assert grads[0].abs().max() > 0
    torch.testing.assert_close(*grads, atol=1e-5 * max(1.0, grads[1].abs().max().item()), rtol=0)


def test_rows_without_a_target_have_no_loss():
    projected = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]], requires_grad=True)
    losses = alignment_loss(projected, torch.tensor([[2.0, 0.0], [torch.nan, 0.0], [-1.0, 0.0]]))
    losses.sum().backward()
    assert losses.tolist() == [0.0, 0.0, 2.0]
    assert projected.grad.isfinite().all() and projected.grad[1].abs().max() == 0
