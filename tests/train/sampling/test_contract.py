"""What every sampler keeps to, with every objective that it fits."""

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise, product
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from tests.support.contributing import family_with_example
from tests.support.families import members
from tests.train.sampling.gaussian import MEAN, STD, exact, prediction, process, target
from train.model.dit import DiT
from train.model.dit_config import DiTConfig
from train.objective.base import NoiseLevel, Objective
from train.objective.config import DDPMConfig, FlowConfig
from train.packing.batch import Sample, pack
from train.sampling.config import SampleConfig
from train.sampling.generate import generate
from train.sampling.samplers.ancestral import AncestralSampler
from train.sampling.samplers.base import Sampler
from train.sampling.samplers.config import SamplerConfig
from train.sampling.samplers.ddim import DDIMSampler
from train.sampling.samplers.euler import EulerSampler

OBJECTIVES = [
    FlowConfig(),
    FlowConfig(shift_base_tokens=4),
    DDPMConfig(),
    DDPMConfig(learn_sigma=True),
    DDPMConfig(schedule="cosine", prediction="v"),
    DDPMConfig(prediction="x0"),
    DDPMConfig(zero_terminal_snr=True, prediction="v"),
]
SAMPLERS: list[Any] = [member() for member in members(SamplerConfig)]
SECOND_ORDER = ("heun", "dpm-solver++", "unipc")
SHAPE = DiTConfig(width=32, depth=1, num_heads=2)

pairs = pytest.mark.parametrize(
    ("sampler", "config"),
    [pair for pair in product(SAMPLERS, OBJECTIVES) if pair[0].needs <= pair[1].gives],
    ids=lambda value: value.kind if value in SAMPLERS else str(value.model_dump(exclude_defaults=True)),
)


def noises(seed: int, shape: tuple[int, ...]) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield torch.randn(shape, dtype=torch.float64, generator=generator)


def sampled(sampler: Sampler, objective: Objective, x: Tensor, num_steps: int) -> tuple[Tensor, list[float]]:
    """What becomes of x under the exact model, and the times at which that was asked."""
    asked: list[float] = []

    def model(x: Tensor, level: NoiseLevel) -> Tensor:
        asked.append(level.time.item())
        output = prediction(objective, exact(x, level.alpha, level.sigma), level.alpha, level.sigma)
        return torch.cat([output, -torch.ones_like(output)], 1) if objective.config.num_outputs == 2 else output

    return sampler.sample(x, process(objective, num_steps, model, noises(1, x.shape))), asked


@pairs
def test_a_sampler_reaches_the_data_at_its_order(sampler: Sampler, config: Any):
    """The probability flow's own end, or, with fresh noise at each step, the width of the data."""
    objective, x = config.build(), next(noises(0, (4000, 1)))
    if isinstance(sampler, AncestralSampler):
        out, _ = sampled(sampler, objective, x, 500)
        assert out.mean().item() == pytest.approx(MEAN, abs=0.03)
        assert out.std().item() == pytest.approx(STD, rel=0.06)  # the posterior's variance is a little small
        return
    few, many = ((sampled(sampler, objective, x, n)[0] - target(objective, x)).abs().mean().item() for n in (10, 40))
    assert many < 0.03 and math.log2(few / many) / 2 > 0.85
    if sampler.kind in SECOND_ORDER:
        euler = (sampled(EulerSampler(), objective, x, 40)[0] - target(objective, x)).abs().mean().item()
        assert many < euler / 3


@pairs
def test_the_model_is_asked_on_the_way_and_never_at_the_data(sampler: Sampler, config: Any):
    _, asked = sampled(sampler, config.build(), next(noises(0, (2, 3))), 4)
    assert 4 <= len(asked) <= 8 and min(asked) > 0
    assert all(one >= other for one, other in pairwise(asked))
    assert sampled(sampler, config.build(), next(noises(0, (2, 3))), 1)[1] == asked[:1], "one step asks once"


@pairs
def test_conditioning_tokens_are_shown_clean_and_come_out_unchanged(
    sampler: Sampler, config: Any, samples: list[Sample]
):
    chosen = [replace(samples[0], clean_mask=torch.arange(18) < 6), samples[1]]  # the first of three frames
    seen = []

    def model(x: Tensor, timesteps: Tensor, batch: Any) -> Tensor:
        seen.append(torch.equal(x[~batch.loss_mask], batch.tokens[~batch.loss_mask]))
        return torch.ones(len(x), config.num_outputs * x.shape[1])

    settings = SampleConfig(num_steps=3, guidance=2).model_copy(update={"sampler": sampler})
    begun, other = generate(model, chosen, config.build(), settings, SHAPE, 12, torch.device("cpu"))
    assert torch.equal(begun[:, :1], samples[0].latent[:, :1]) and all(seen)
    assert not torch.isclose(begun[:, 1:], samples[0].latent[:, 1:]).any()
    assert not torch.isclose(other, samples[1].latent).any()


@pairs
def test_a_sample_is_the_same_in_any_pack(sampler: Sampler, config: Any, samples: list[Sample]):
    """Noise is keyed by the sample; nothing else of the pack is seen."""
    torch.manual_seed(0)
    model = DiT(SHAPE, channels=4, text_dim=12, num_outputs=config.num_outputs)
    torch.nn.init.normal_(model.final.linear.weight, std=0.02)

    def made(chosen: list[Sample]) -> list[Tensor]:
        settings = SampleConfig(num_steps=3, guidance=2).model_copy(update={"sampler": sampler})
        return generate(model, chosen, config.build(), settings, SHAPE, 12, torch.device("cpu"))

    together = made(samples[:3])
    apart = [latent for i in range(3) for latent in made(samples[i : i + 1])]
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler.kind)
def test_a_name_stands_for_a_sampler_with_its_defaults(sampler: Any):
    adapter = TypeAdapter(SamplerConfig)
    assert adapter.validate_python(sampler.kind) == sampler == adapter.validate_python(sampler.model_dump())


@pytest.mark.parametrize(
    ("name", "message"),
    [("ddpm", "got ddpm; it is now ancestral"), ("auto", "got auto; it is now euler"), ("rk4", "'rk4' found using")],
)
def test_names_that_are_none_are_told(name: str, message: str):
    for value in (name, {"kind": name}):
        with pytest.raises(ValidationError, match=message):
            SampleConfig.model_validate({"sampler": value})


def test_steps_beyond_the_timesteps_are_refused_with_the_key():
    with pytest.raises(ValueError, match=r"sample\.num_steps: got 20, and the objective has 10 timesteps"):
        SampleConfig(num_steps=20).check_objective(DDPMConfig(num_timesteps=10))


def test_noise_of_a_step_is_of_the_sample_and_the_seed(samples: list[Sample]):
    """Two samples that differ in their ids alone, and one sample under two seeds, do not get one noise."""
    objective = DDPMConfig().build()

    def made(sampler: Sampler, clip_ids: list[str], seed: int = 0) -> list[Tensor]:
        chosen = [replace(samples[0], clip_id=clip_id) for clip_id in clip_ids]
        settings = SampleConfig(sampler=sampler, num_steps=3, guidance=1, seed=seed)
        return generate(lambda x, *_: 0 * x, chosen, objective, settings, SHAPE, 12, torch.device("cpu"))

    for sampler in (AncestralSampler(), DDIMSampler(eta=1)):
        a, b = made(sampler, ["a", "b"])
        assert not torch.isclose(a, b).any(dim=0).all()
        assert torch.equal(made(sampler, ["b"])[0], b)
        assert not torch.isclose(made(sampler, ["a"], seed=1)[0], a).any(dim=0).all()


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler.kind)
@pytest.mark.parametrize("num_frames", [1, 3])
def test_a_lone_frame_in_a_tubelet_has_the_width_of_the_data(sampler: Sampler, num_frames: int):
    """By the exact ε of data N(0, 1), which says of copies of one frame what the model says: the mean of theirs."""
    objective, patch = DDPMConfig().build(), (2, 2, 2)
    shape = DiTConfig(width=24, depth=1, num_heads=2, patch=patch, text="none", condition_on_fps=False)

    def model(x: Tensor, timesteps: Tensor, batch: Any) -> Tensor:
        cumulative = objective.alphas_cumprod[(timesteps * 1000).round().long()]
        noise = batch.segments.gather((1 - cumulative).sqrt())[:, None].float() * x
        copies = noise.unflatten(-1, (-1, patch[0], 4))
        tied = copies.mean(2, keepdim=True).expand_as(copies).flatten(1)
        return torch.where(batch.lone_frames[:, None], tied, noise)

    noise = torch.randn(8, num_frames, 32, 32, generator=torch.Generator().manual_seed(0))
    one = Sample(clip_id="0", latent=torch.zeros_like(noise), noise=noise, timestep=1.0, fps=8.0, text=None)
    settings = SampleConfig(sampler=sampler, num_steps=100, guidance=1)
    (latent,) = generate(model, [one], objective, settings, shape, 1, torch.device("cpu"))
    assert latent[:, 0].std().item() == pytest.approx(1, abs=0.08)  # of the posterior's variance in 100 steps: 0.95
    assert latent.std().item() == pytest.approx(1, abs=0.08)


def test_the_sampler_of_contributing_keeps_the_contract(monkeypatch: pytest.MonkeyPatch, samples: list[Sample]):
    union = family_with_example("A sampler", monkeypatch).SamplerConfig
    sampler = TypeAdapter(union).validate_python("adams-bashforth")
    assert len(members(union)) == len(SAMPLERS) + 1
    keeps_the_contract([(sampler, config) for config in OBJECTIVES], samples)


def test_the_objective_of_contributing_keeps_the_contract(monkeypatch: pytest.MonkeyPatch, samples: list[Sample]):
    union = family_with_example("An objective", monkeypatch).ObjectiveConfig
    config = TypeAdapter(union).validate_python({"kind": "cosine"})
    assert len(members(union)) == 3
    keeps_the_contract([(sampler, config) for sampler in SAMPLERS], samples)
    batch = pack(samples[:2], SHAPE.patch, 12)
    assert (config.build().token_losses(lambda *_: batch.noise, batch) == 0).all()


def keeps_the_contract(new: list[tuple[Any, Any]], samples: list[Sample]) -> None:
    for sampler, config in new:
        test_a_sampler_reaches_the_data_at_its_order(sampler, config)
        test_the_model_is_asked_on_the_way_and_never_at_the_data(sampler, config)
        test_conditioning_tokens_are_shown_clean_and_come_out_unchanged(sampler, config, samples)
        test_a_sample_is_the_same_in_any_pack(sampler, config, samples)


def test_a_sampler_that_needs_what_an_objective_does_not_give_is_refused():
    class Needy(DDIMSampler):
        needs = frozenset({"variance"})

    config = SampleConfig().model_copy(update={"sampler": Needy()})
    config.check_objective(DDPMConfig(learn_sigma=True))
    with pytest.raises(ValueError, match=r"sample\.sampler: ddim needs variance .* flow gives noise, velocity, x_0"):
        config.check_objective(FlowConfig())
