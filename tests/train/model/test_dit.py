"""Packed = one by one. Every parameter is redrawn first: at adaLN-Zero's start the equalities would be empty."""

from dataclasses import replace

import pytest
import torch

from train.model.dit import DiT, DiTConfig
from train.objective.flow import FlowConfig, RectifiedFlow
from train.segments import Sample, pack

CHANNELS, TEXT_DIM, PATCH = 4, 12, (1, 2, 2)
VARIANTS = [
    {"pattern": "joint", "position": "rope"},
    {"pattern": "joint", "position": "sincos", "qk_norm": False},
    {"pattern": "alternating", "position": "rope", "reference_fps": 24.0},
    {"pattern": "alternating", "position": "sincos", "condition_on_fps": False},
]


def redrawn(**settings) -> DiT:
    generator = torch.Generator().manual_seed(1)
    config = DiTConfig(width=48, depth=2, num_heads=3, patch=PATCH, **settings)
    model = DiT(config, channels=CHANNELS, text_dim=TEXT_DIM)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.15 * torch.randn(parameter.shape, generator=generator))
    return model


def packed(samples: list[Sample]):
    return pack(samples, PATCH, TEXT_DIM)


def output(model: DiT, samples: list[Sample]) -> list[torch.Tensor]:
    batch = packed(samples)
    return list(model(batch.tokens, batch.timesteps, batch).split(batch.segments.lengths))


def gradients(model: DiT) -> dict[str, torch.Tensor]:
    grads = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    return grads


@pytest.mark.parametrize("settings", VARIANTS, ids=lambda s: "-".join(map(str, s.values())))
@pytest.mark.parametrize("reduction", ["sample", "token"])
def test_packed_outputs_loss_and_gradients_equal_one_by_one(samples: list[Sample], settings, reduction):
    model = redrawn(**settings)
    together, alone = output(model, samples), [output(model, [sample])[0] for sample in samples]
    assert all(part.abs().max() > 0.1 for part in together)
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)

    objective = RectifiedFlow(FlowConfig(reduction=reduction))
    count = objective.count(len(samples), packed(samples).segments.num_tokens)
    losses, grads = [], []
    for batches in ([packed(samples)], [packed([sample]) for sample in samples]):
        total = 0.0
        for batch in batches:
            loss = objective.loss_sum(objective.token_losses(model, batch), batch) / count
            loss.backward()
            total += loss.item()
        losses.append(total)
        grads.append(gradients(model))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    for name, grad in grads[0].items():
        assert grad.abs().max() > 0, name
        scale = max(1.0, grad.abs().max().item())
        torch.testing.assert_close(grad, grads[1][name], atol=1e-5 * scale, rtol=0, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("settings", VARIANTS[::2], ids=lambda s: s["pattern"])
def test_order_of_samples_and_choice_of_pack_change_nothing(samples: list[Sample], settings):
    model = redrawn(**settings)
    reference = output(model, samples)
    order = [4, 2, 0, 5, 1, 3]
    for i, part in zip(order, output(model, [samples[i] for i in order]), strict=True):
        torch.testing.assert_close(part, reference[i], atol=1e-5, rtol=0)
    for i, part in zip([0, 3, 5], output(model, [samples[i] for i in (0, 3, 5)]), strict=True):
        torch.testing.assert_close(part, reference[i], atol=1e-5, rtol=0)


@pytest.mark.parametrize("settings", VARIANTS[::2], ids=lambda s: s["pattern"])
def test_replacing_one_sample_by_noise_changes_exactly_nothing_elsewhere(samples: list[Sample], settings):
    model = redrawn(**settings)
    reference = output(model, samples)
    for j, sample in enumerate(samples):
        noisy = replace(
            sample,
            latent=100 * torch.randn_like(sample.latent),
            timestep=1 - sample.timestep,
            fps=60.0,
            text=None if sample.text is None else 100 * torch.randn_like(sample.text),
        )
        changed = output(model, [*samples[:j], noisy, *samples[j + 1 :]])
        differences = [(a - b).abs().max().item() for a, b in zip(changed, reference, strict=True)]
        assert differences.pop(j) > 0.1
        assert differences == [0.0] * (len(samples) - 1)


def test_every_condition_reaches_the_output_of_its_own_sample(samples: list[Sample]):
    model = redrawn()
    reference = output(model, [samples[0]])[0]
    for change in ({"timestep": 0.9}, {"fps": 30.0}, {"text": None}, {"text": samples[0].text.flip(1)}):
        assert (output(model, [replace(samples[0], **change)])[0] - reference).abs().max() > 1e-3, change


def test_half_precision_autocast_stays_close_to_float32(samples: list[Sample]):
    model = redrawn()
    reference = torch.cat(output(model, samples))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = torch.cat(output(model, samples))
    assert half.dtype == torch.bfloat16
    assert torch.nn.functional.cosine_similarity(half.float().flatten(), reference.flatten(), dim=0) > 0.999


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("settings", VARIANTS[::2], ids=lambda s: s["pattern"])
def test_the_varlen_kernel_on_a_gpu_computes_what_the_cpu_does(samples: list[Sample], settings):
    model, batch = redrawn(**settings), packed(samples)
    reference = model(batch.tokens, batch.timesteps, batch)
    model, batch = model.to("cuda"), batch.to("cuda")
    with torch.autocast("cuda", dtype=torch.bfloat16):
        half = model(batch.tokens, batch.timesteps, batch)
    assert torch.nn.functional.cosine_similarity(half.float().cpu().flatten(), reference.flatten(), dim=0) > 0.999


def test_blocks_are_the_identity_and_the_output_zero_at_initialization(samples: list[Sample]):
    model = DiT(DiTConfig(width=36, depth=3, num_heads=3), channels=CHANNELS, text_dim=TEXT_DIM)
    batch = packed(samples)
    seen = []
    for block in model.blocks:
        block.register_forward_hook(lambda _, inputs, out: seen.append(torch.equal(inputs[0], out)))
    assert model(batch.tokens, batch.timesteps, batch).abs().max() == 0
    assert seen == [True] * 3


def test_a_head_count_that_does_not_divide_the_width_is_refused():
    with pytest.raises(ValueError, match="width 36 and num_heads 5"):
        DiTConfig(width=36, num_heads=5)
