from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from tests.train.model.conftest import num_patches, packed
from train.align.config import PatchesConfig
from train.align.loss import Projector, alignment_loss
from train.align.patches import PatchAlignment
from train.model.dit import DiT
from train.objective.config import FlowConfig
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


def with_features(samples: list[Sample]) -> list[Sample]:
    """7 features of each token of the grid."""
    generator = torch.Generator().manual_seed(2)
    return [
        replace(sample, features=torch.randn(num_patches(sample), 7, generator=generator).half()) for sample in samples
    ]


def test_alignment_by_token_is_a_plain_loop_and_that_of_the_samples_alone(
    redrawn: Callable[..., DiT], mixed_samples: list[Sample]
) -> None:
    model, samples = redrawn(conditioning="in_context"), with_features(mixed_samples)
    aligned = PatchAlignment(PatchesConfig(weight=0.5, block=1, projector_dim=20), "", width=48, dim=7, seed=0)

    def losses(samples: list[Sample]) -> torch.Tensor:
        return aligned.losses(model, FlowConfig().build(), packed(model, samples))[1]

    def gradient(loss: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(loss, model.embed.weight)[0]

    expected = []
    for sample in samples:
        batch = packed(model, [sample])
        t = batch.condition_timesteps[batch.condition_ids][:, None]
        noisy = (1 - t) * batch.tokens + t * batch.noise
        _, features = model(noisy, batch.timesteps, batch, features_of=1)
        kept = range(num_patches(sample)) if sample.kept is None else sample.kept.tolist()
        cosines = [
            torch.cosine_similarity(aligned.projector(features[row]), sample.features[place].float(), dim=0)
            for row, place in enumerate(kept)
        ]
        expected.append(sum(1 - cosine for cosine in cosines) / len(kept))
    together, alone = losses(samples), [losses([sample]) for sample in samples]
    for loss, plain in zip(alone, expected, strict=True):
        torch.testing.assert_close(loss, 0.5 * plain, atol=1e-5, rtol=0)
    torch.testing.assert_close(together, sum(alone), atol=1e-5, rtol=0)
    torch.testing.assert_close(gradient(together), gradient(sum(alone)), atol=1e-4, rtol=1e-4)


def test_a_token_of_another_sample_has_no_part_in_the_alignment_of_one(
    redrawn: Callable[..., DiT], mixed_samples: list[Sample]
) -> None:
    model, samples = redrawn(), with_features(mixed_samples)
    aligned = PatchAlignment(PatchesConfig(weight=1, block=1, projector_dim=20), "", width=48, dim=7, seed=0)
    others = [replace(sample, features=torch.full_like(sample.features, torch.nan)) for sample in samples[1:]]
    batch = packed(model, [samples[0], *others])
    tokens = batch.tokens.requires_grad_()
    _, loss = aligned.losses(model, FlowConfig().build(), batch)
    [gradient] = torch.autograd.grad(loss, tokens)
    own = batch.segments.lengths[0]
    assert gradient[:own].abs().max() > 0 and not gradient[own:].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_memory_of_a_projector_is_what_autograd_keeps(dtype: torch.dtype) -> None:
    projector, features, targets = Projector(8, 24, hidden=64), torch.randn(50, 8), torch.randn(50, 24).half()
    own = {parameter.data_ptr() for parameter in projector.parameters()} | {features.data_ptr()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if len(tensor) == 50 and tensor.data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", dtype=dtype, enabled=dtype is torch.bfloat16):
        alignment_loss(projector(features), targets).sum()
    assert projector.activation_bytes(50, dtype) == pytest.approx(sum(kept.values()), rel=0.15)
