"""A model that reads its own estimate: what it is shown, in training and while it is sampled."""

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from tests.support.families import members
from tests.train.model.test_denoisers import SMALL, TEXT_DIM
from train.model.base import Denoiser
from train.model.base_config import ESTIMATE
from train.model.config import ModelConfig
from train.model.dit_config import DiTConfig
from train.objective.config import DDPMConfig, FlowConfig
from train.objective.self_conditioning import LIMIT
from train.packing.batch import PackedBatch, Sample, pack
from train.sampling.config import SampleConfig
from train.sampling.generate import generate
from train.sampling.samplers.config import SamplerConfig

CPU = torch.device("cpu")
OBJECTIVES = [FlowConfig(), DDPMConfig(learn_sigma=True), DDPMConfig(prediction="v"), DDPMConfig(prediction="x0")]
SHAPE = DiTConfig(width=32, depth=1, num_heads=2, self_conditioning=0.5)
SAMPLERS: list[Any] = [member() for member in members(SamplerConfig)]


def built(kind: str) -> Denoiser:
    """A small model in which no weight is zero."""
    settings = {"kind": kind, **SMALL[kind], "self_conditioning": 0.5}
    model: Denoiser = TypeAdapter(ModelConfig).validate_python(settings).build(channels=4, text_dim=TEXT_DIM)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def chosen(samples: list[Sample]) -> list[Sample]:
    """Shown and not shown; of the first a frame is given."""
    drawn = [replace(one, self_conditioned=i % 2 == 0) for i, one in enumerate(samples[:4])]
    return [replace(drawn[0], clean_mask=torch.arange(18) < 6), *drawn[1:]]


@pytest.mark.parametrize("config", OBJECTIVES, ids=lambda c: str(c.model_dump(exclude_defaults=True)))
def test_those_that_are_drawn_are_shown_the_estimate_of_a_pass_without_gradients(samples: list[Sample], config: Any):
    objective, batch, asked = config.build(), pack(chosen(samples), (1, 2, 2), TEXT_DIM), list[Any]()
    wanted = batch.tokens + torch.linspace(-1, 7, len(batch.tokens))[:, None]  # some of it beyond the limit
    t = batch.condition_timesteps
    if config.kind == "ddpm":
        t = (t * 1000).round() / 1000
        batch = replace(batch, timesteps=t[:4], condition_timesteps=t)

    def model(x: Tensor, timesteps: Tensor, seen: PackedBatch) -> Tensor:
        """Says `wanted`, by x = alpha x_0 + sigma ε."""
        asked.append((torch.is_grad_enabled(), seen.conditioning.get(ESTIMATE)))
        if config.kind == "flow":
            time = t[batch.condition_ids][:, None].clamp(min=1e-3)
            return (x - wanted) / time
        signal = objective.alphas_cumprod[(t * 1000).long()].sqrt().float()[batch.condition_ids][:, None]
        sigma = (1 - signal**2).sqrt()
        noise = (x - signal * wanted) / sigma
        output = {"epsilon": noise, "v": signal * noise - sigma * wanted, "x0": wanted}[config.prediction]
        return torch.cat([output, output], 1) if config.learn_sigma else output

    objective.token_losses(model, batch)
    (first_grad, none), (second_grad, estimate) = asked
    assert (first_grad, none, second_grad) == (False, None, True)
    drawn = (batch.segments.segment_ids % 2 == 0) & batch.loss_mask
    assert not estimate[~drawn].any()
    torch.testing.assert_close(estimate[drawn], wanted[drawn].clamp(-LIMIT, LIMIT), atol=2e-3, rtol=1e-3)
    assert (wanted[drawn] > LIMIT).any()
    objective.token_losses(model, replace(batch, self_conditioned=None))
    assert len(asked) == 3, "a model that reads none is asked once"


def losses_and_gradients(model: Denoiser, packs: list[list[Sample]]) -> tuple[list[Tensor], list[Tensor]]:
    objective, found = FlowConfig().build(), list[Tensor]()
    for samples in packs:
        batch = model.config.prepare(pack(samples, model.config.patch, TEXT_DIM, model.config.conditions))
        losses = objective.token_losses(model, batch)
        objective.loss_sum(losses, batch).backward()
        found += losses.detach().split(batch.segments.lengths)
    gradients = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    return found, gradients


@pytest.mark.parametrize("kind", ["dit", "unet"])
def test_losses_and_gradients_of_a_pack_are_those_of_its_samples_alone(kind: str, samples: list[Sample]):
    model, these = built(kind), chosen(samples)
    together, grads = losses_and_gradients(model, [these])
    alone, grads_alone = losses_and_gradients(model, [[one] for one in these[::-1]])
    for one, other in zip(together, alone[::-1], strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    for one, other in zip(grads, grads_alone, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5 * max(1, one.abs().max().item()), rtol=0)
    name = f"embed_conditioning.layers.{ESTIMATE}.weight"
    weight = dict(zip((n for n, _ in model.named_parameters()), grads, strict=True))[name]
    assert weight.abs().max() > 0
    noisy = replace(these[0], latent=100 * torch.randn_like(these[0].latent))
    changed, _ = losses_and_gradients(model, [[noisy, *these[1:]]])
    assert [torch.equal(a, b) for a, b in zip(changed, together, strict=True)] == [False, True, True, True]
    other, _ = losses_and_gradients(model, [[replace(one, self_conditioned=False) for one in these]])
    assert [torch.equal(a, b) for a, b in zip(other, together, strict=True)] == [False, True, False, True]


def test_under_autocast_weights_that_the_first_pass_has_cast_are_trained(samples: list[Sample]):
    model = built("dit")
    with torch.autocast("cpu", torch.bfloat16):
        _, grads = losses_and_gradients(model, [chosen(samples)])
    assert all(grad.abs().max() > 0 for grad in grads)


@pytest.mark.parametrize(("sampler", "weight"), product(SAMPLERS, [1, 3]), ids=str)
def test_each_evaluation_is_shown_the_guided_estimate_of_the_one_before(
    sampler: Any, weight: int, samples: list[Sample]
):
    """In every branch; at pure noise, and of given tokens, there is none."""
    objective, these = DDPMConfig(prediction="x0").build(), [chosen(samples)[0], samples[3]]
    shown, said = list[Any](), list[Tensor]()

    def model(x: Tensor, timesteps: Tensor, batch: PackedBatch) -> Tensor:
        shown.append(batch.conditioning.get(ESTIMATE))
        given = batch.segments.gather(batch.has_caption.float())[:, None]
        said.append((0.1 * len(shown) + given).expand_as(x))
        return said[-1]

    settings = SampleConfig(num_steps=3, guidance=weight).model_copy(update={"sampler": sampler})
    generate(model, these, objective, settings, SHAPE, TEXT_DIM, CPU)
    batch = pack(these, SHAPE.patch, TEXT_DIM)
    num_branches, count = (2 if weight > 1 else 1), batch.segments.num_tokens
    assert shown[0] is None and len(shown) >= 3
    for estimate, before in zip(shown[1:], said, strict=False):
        assert len(estimate) == num_branches * count
        branches = before.split(count)
        guided = branches[0] + (weight - 1) * (branches[0] - branches[-1])
        torch.testing.assert_close(estimate, (guided * batch.loss_mask[:, None]).repeat(num_branches, 1))


def test_a_branch_without_given_frames_is_shown_no_estimate_of_them(samples: list[Sample]):
    seen, these = list[Any](), [chosen(samples)[0]]

    def model(x: Tensor, timesteps: Tensor, batch: PackedBatch) -> Tensor:
        seen.append(batch.conditioning.get(ESTIMATE))
        return torch.ones_like(x)

    rules = [{"kind": "constant", "drop": ["frames"], "weight": 2}]
    settings = SampleConfig.model_validate({"num_steps": 2, "guidance": rules})
    generate(model, these, FlowConfig().build(), settings, SHAPE, TEXT_DIM, CPU)
    whole, without = seen[1].split(18)
    assert not whole[:6].any() and torch.equal(whole, without) and whole[6:].any()


def test_a_weaker_model_that_reads_no_estimate_is_shown_none(samples: list[Sample]):
    names = list[tuple[str, list[str]]]()

    def answers(name: str) -> Any:
        return lambda x, _, batch: names.append((name, list(batch.conditioning))) or torch.ones_like(x)

    settings = SampleConfig.model_validate({"num_steps": 2, "guidance": {"kind": "autoguidance", "weight": 2}})
    weaker = answers("weaker"), SHAPE.model_copy(update={"self_conditioning": 0.0})
    generate(answers("own"), samples[:1], FlowConfig().build(), settings, SHAPE, TEXT_DIM, CPU, weaker=weaker)
    assert sorted(names[:2]) == [("own", []), ("weaker", [])]
    assert sorted(names[2:]) == [("own", [ESTIMATE]), ("weaker", [])]


def test_a_sample_is_the_same_in_any_pack(samples: list[Sample]):
    model, settings = built("dit"), SampleConfig(num_steps=3, guidance=2)

    def made(these: list[Sample]) -> list[Tensor]:
        return generate(model, these, FlowConfig().build(), settings, model.config, TEXT_DIM, CPU)

    for one, sample in zip(made(samples[:3]), samples, strict=False):
        torch.testing.assert_close(one, made([sample])[0], atol=1e-3, rtol=1e-3)


def test_the_name_of_the_estimate_is_taken():
    with pytest.raises(ValidationError, match=r"estimate is the name of the model's own estimate .*take another"):
        DiTConfig(conditioning_latents={ESTIMATE: 4})
