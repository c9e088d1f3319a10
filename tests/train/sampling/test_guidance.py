"""Guidance: branches, their weights, and what each of them is shown."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from tests.support.contributing import family_with_example
from tests.support.families import members
from tests.train.sampling.gaussian import exact
from train.data.plan import PlanConfig
from train.model.dit import DiT
from train.model.dit_config import DiTConfig
from train.objective.config import DDPMConfig, FlowConfig
from train.packing.batch import PackedBatch, Sample, pack
from train.packing.segments import Segments
from train.packing.shapes import LONE_FRAMES
from train.sampling.config import SampleConfig
from train.sampling.generate import generate, packs_to_generate
from train.sampling.guidance.apg import ProjectedCombination
from train.sampling.guidance.combination import Answer
from train.sampling.guidance.compose import GuidedModel, Prediction, without
from train.sampling.guidance.config import ConstantGuidance, RuleConfig, coefficients, num_branches
from train.sampling.guidance.interval import IntervalGuidance
from train.sampling.guidance.linear import LinearCombination

RULES: list[Any] = [member() for member in members(RuleConfig)]
SHAPE = DiTConfig(width=32, depth=1, num_heads=2, num_classes=3)
TIMES = [i / 20 for i in range(21)]
Model = Callable[[Tensor, Tensor, PackedBatch], Tensor]


def made(model: Model, samples: list[Sample], objective: Any = None, **settings: Any) -> list[Tensor]:
    config = SampleConfig.model_validate({"num_steps": 2} | settings)
    return generate(model, samples, (objective or FlowConfig()).build(), config, SHAPE, 12, torch.device("cpu"))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kind)
def test_a_rule_takes_the_weights_that_it_tells_and_names_what_it_drops(rule: Any):
    assert {rule.weight_at(time) for time in TIMES} == set(rule.weights)
    assert rule.drop or rule.kind == "autoguidance"
    assert TypeAdapter(RuleConfig).validate_python(rule.model_dump()) == rule
    assert num_branches([rule]) == 2


def test_factors_of_the_branches_sum_to_1_and_those_of_0_are_not_made():
    assert coefficients([4.0]) == [4, -3] and coefficients([3.0, 0.5]) == [2.5, -2, 0.5]
    cases = {(): 1, (4.0,): 2, (1.0,): 1, (0.0,): 1, (3.0, 1.0): 2, (3.0, 2.0): 3}
    for weights, count in cases.items():
        assert sum(coefficients(weights)) == pytest.approx(1)
        assert num_branches([ConstantGuidance(weight=weight) for weight in weights]) == count


def test_a_number_stands_for_one_constant_rule_and_one_rule_for_a_list():
    assert SampleConfig(guidance=2).guidance == (ConstantGuidance(weight=2),)  # type: ignore[arg-type]
    one = SampleConfig.model_validate({"guidance": {"kind": "interval", "weight": 2}})
    assert one.guidance == (IntervalGuidance(weight=2),)
    assert SampleConfig.model_validate(one.model_dump(mode="json")) == one
    for wrong, message in (
        (-1, "greater than or equal to 0"),
        ({"kind": "interval", "low": 0.8}, r"low 0\.8 and high 0\.7; expected low below high"),
        ({"kind": "constant", "drop": ["sound"]}, "'caption', 'label', 'scalars' or 'frames'"),
    ):
        with pytest.raises(ValidationError, match=message):
            SampleConfig.model_validate({"guidance": wrong})


def test_samples_are_moved_by_their_own_caption_and_noise_levels(samples: list[Sample]):
    """Two samples of other token counts, levels shifted by them; the "model" is Gaussian, its mean the caption."""
    captions = [1.0, -2.0]
    chosen = [replace(samples[i], text=torch.full((1, 12), mean)) for i, mean in zip((0, 3), captions, strict=True)]

    def model(x: Tensor, timesteps: Tensor, batch: PackedBatch) -> Tensor:
        mean: Any = batch.segments.gather(batch.text_segments.mean(batch.text)[:, :1])  # 0 without a caption
        t = batch.segments.gather(timesteps)[:, None]
        return exact(x, 1 - t, t, mean, 0.5).velocity

    found = made(model, chosen, FlowConfig(shift_base_tokens=16), num_steps=200, guidance=1.5)
    # Guidance is linear in the velocity, and so in the mean: the target's mean is 1.5 × the caption's.
    for latent, sample, caption in zip(found, chosen, captions, strict=True):
        torch.testing.assert_close(latent, 1.5 * caption + 0.5 * sample.noise, atol=0.03, rtol=0)


def test_caption_and_label_are_dropped_together_and_variances_are_those_under_the_caption(samples: list[Sample]):
    """The model says nothing of the data, and of the variance the most under a caption and the least without."""
    asked = []

    def model(x: Tensor, timesteps: Tensor, batch: PackedBatch) -> Tensor:
        asked.append((batch.has_caption.tolist(), batch.labels.tolist()))
        variance = batch.segments.gather(torch.where(batch.has_caption, 1.0, -1.0))[:, None]
        return torch.cat([0 * x, variance.expand_as(x)], dim=1)

    chosen = [replace(samples[i], label=2) for i in (0, 3)]
    settings = {"sampler": "ancestral", "num_steps": 5, "objective": DDPMConfig(learn_sigma=True)}
    guided, captioned = (made(model, chosen, guidance=weight, **settings) for weight in (3, 1))
    torch.testing.assert_close(guided, captioned)
    assert asked[0] == ([True, True, False, False], [2, 2, -1, -1])
    assert asked[-1] == ([True, True], [2, 2])


def test_branches_are_combined_by_their_weights(samples: list[Sample]):
    """Of a model whose answer counts the caption as 1 and the label as 10."""
    chosen = [replace(samples[0], label=2)]

    def model(x: Tensor, timesteps: Tensor, batch: PackedBatch) -> Tensor:
        value = batch.has_caption.float() + 10 * (batch.labels >= 0)
        return torch.ones_like(x) * batch.segments.gather(value)[:, None]

    rules = [{"kind": "constant", "drop": [part], "weight": w} for part, w in (("caption", 3), ("label", 2))]
    (latent,) = made(model, chosen, guidance=rules, num_steps=1)
    # 11 + 2 · (11 - 10) + 1 · (11 - 1), and x_0 = ε - v.
    torch.testing.assert_close(latent, samples[0].noise - 23)


def test_frames_are_as_noisy_as_the_rest_where_a_branch_drops_them(samples: list[Sample]):
    """And clean where it has them."""
    mask, seen = torch.arange(18) < 6, []

    def model(x: Tensor, timesteps: Tensor, batch: PackedBatch) -> Tensor:
        seen.append((x, timesteps, batch))
        return torch.zeros_like(x)

    chosen = [replace(samples[0], clean_mask=mask)]
    rule = {"kind": "constant", "drop": ["frames"], "weight": 2}
    (latent,) = made(model, chosen, guidance=rule, num_steps=4)
    assert torch.equal(latent[:, :1], samples[0].latent[:, :1])
    for x, timesteps, batch in seen:
        whole, without = x.chunk(2)
        clean, noise = batch.tokens[:18][mask], batch.noise[:18][mask]
        assert torch.equal(whole[mask], clean) and batch.loss_mask[18:].all()
        torch.testing.assert_close(without[mask], (1 - timesteps[0]) * clean + timesteps[0] * noise)
        assert torch.equal(whole[~mask], without[~mask])


def test_pictures_are_dropped_with_the_frames_and_other_latents_stay(samples: list[Sample]):
    latents = {name: torch.ones_like(samples[0].latent) for name in (LONE_FRAMES, "spatial")}
    found = without(replace(samples[0], conditioning=latents, clean_mask=torch.arange(18) < 6), ["frames"])
    assert list(found.conditioning) == ["spatial"] and found.clean_mask is None
    assert list(without(replace(samples[0], conditioning=latents), ["caption"]).conditioning) == list(latents)


def test_outside_its_interval_a_rule_costs_nothing(samples: list[Sample]):
    num_tokens = []

    def model(x: Tensor, timesteps: Tensor, batch: PackedBatch) -> Tensor:
        num_tokens.append(len(x))
        return x

    rule = {"kind": "interval", "low": 0.15, "high": 0.55}
    made(model, samples[:1], guidance=rule, num_steps=10)  # asked at 1, 0.9 … 0.1
    assert [count // num_tokens[0] for count in num_tokens] == [1, 1, 1, 1, 1, 2, 2, 2, 2, 1]


@pytest.mark.parametrize("weight", [0, 1])
def test_without_guidance_half_of_the_work_is_left_out(weight: int, samples: list[Sample]):
    """And the result is that of combining both branches."""
    model = DiT(SHAPE, channels=4, text_dim=12)
    torch.nn.init.normal_(model.final.linear.weight, std=0.1)
    torch.nn.init.normal_(model.blocks[0].cross_attention.out.weight, std=0.5)
    num_tokens = []

    def counting(x: Tensor, timesteps: Tensor, batch: PackedBatch) -> Tensor:
        num_tokens.append(len(x))
        return model(x, timesteps, batch)

    near = made(counting, samples, guidance=weight + 1e-7)
    for one, other in zip(made(counting, samples, guidance=weight), near, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    assert num_tokens[-1] * 2 == num_tokens[0]


@pytest.mark.parametrize(("weight", "most"), [(1, 100), (4, 50)])
def test_packs_stay_within_the_budget_with_what_guidance_adds(weight: float, most: int):
    counts = [30, 20, 50, 10, 40]
    settings = SampleConfig.model_validate({"guidance": weight})
    packs = packs_to_generate(counts, settings, PlanConfig(token_budget=100))
    assert sorted(i for indices in packs for i in indices) == [0, 1, 2, 3, 4]
    assert max(sum(counts[i] for i in indices) for indices in packs) == most


def test_the_rule_of_contributing_joins_the_family(monkeypatch: pytest.MonkeyPatch):
    family = family_with_example("A guidance rule", monkeypatch)
    rule = TypeAdapter(family.RuleConfig).validate_python({"kind": "ramp", "weight": 3})
    assert [rule.weight_at(time) for time in (0, 0.5, 1)] == [1, 2, 3]
    assert family.num_branches([rule]) == 2 and len(members(family.RuleConfig)) == len(RULES) + 1


def counting_caption(x: Tensor, timesteps: Tensor, batch: PackedBatch) -> Tensor:
    """A model whose answer is the mean of its caption's states, in every value."""
    return torch.ones_like(x) * batch.segments.gather(batch.text_segments.mean(batch.text)[:, :1])


def test_a_negative_prompt_stands_where_the_caption_is_dropped(samples: list[Sample]):
    captions = [torch.full((2, 12), value) for value in (1.0, 2.0)]
    chosen = [replace(sample, text=text) for sample, text in zip(samples[:2], captions, strict=True)]
    config = SampleConfig.model_validate({"num_steps": 1, "guidance": 3, "negative": "blurry"})
    negatives = [torch.full((1, 12), -1.0), None]
    objective = FlowConfig().build()
    found = generate(counting_caption, chosen, objective, config, SHAPE, 12, torch.device("cpu"), negatives=negatives)
    for latent, sample, output in zip(found, chosen, (1 + 2 * (1 + 1), 2 + 2 * 2), strict=True):  # x_0 = ε - v
        torch.testing.assert_close(latent, sample.noise - output)


def test_a_negative_prompt_needs_a_rule_that_drops_the_caption():
    with pytest.raises(ValidationError, match="no rule of guidance drops the caption"):
        SampleConfig.model_validate({"negative": "blurry", "guidance": {"kind": "constant", "drop": ["label"]}})


@pytest.mark.parametrize("objective", [FlowConfig(), DDPMConfig(learn_sigma=True)], ids=lambda one: one.kind)
def test_rescaled_answers_have_the_deviation_of_the_models(objective: Any, samples: list[Sample]):
    """Of each sample by itself, of its free tokens."""
    chosen = [replace(samples[0], clean_mask=torch.arange(18) < 6), samples[3]]
    whole = torch.cat([torch.randn(18, 16), 3 * torch.randn(6, 16)])

    def combined(rescale: float) -> Tensor:
        rules = [ConstantGuidance(weight=5.0)]
        guided = GuidedModel(
            Prediction(network=two_branches, packed=lambda branches: pack(branches, (1, 2, 2), 12)),
            chosen,
            rules,
            LinearCombination(rescale=rescale),
        )
        level = FlowConfig().build().levels(2, [18, 6])[0]
        segments = pack(chosen, (1, 2, 2), 12).segments
        return guided(whole, level, lambda values: segments.gather(values.float())[:, None], lambda out, x: x)

    def two_branches(x: Tensor, timesteps: Tensor, batch: PackedBatch) -> Tensor:
        out = torch.cat([whole, 0.5 * whole.flip(1) + 1])
        return torch.cat([out, out], 1) if objective.num_outputs == 2 else out

    plain, rescaled = combined(0.0), combined(1.0)
    for part in (slice(6, 18), slice(18, 24)):
        assert plain[part, :16].std() > 1.5 * whole[part].std()
        ratio = rescaled[part, :16].std(correction=0) / whole[part].std(correction=0)
        assert ratio.item() == pytest.approx(1, rel=1e-4)
    assert torch.equal(plain[:, 16:], rescaled[:, 16:])


def answer() -> Answer:
    """Of two segments of 3 and 2 tokens, whose x_0 is -2 times the output."""
    segments, generator = Segments.of([3, 2]), torch.Generator().manual_seed(0)
    output, update = (torch.randn(5, 4, generator=generator) for _ in range(2))

    def mean(values: Tensor) -> Tensor:
        return segments.gather(segments.mean(values).mean(1, keepdim=True))

    scale = torch.full((5, 1), -2.0)
    return Answer(output=output, update=update, data=scale * output, data_scale=scale, mean=mean)


def test_apg_leaves_nothing_of_the_update_along_the_answer():
    given = answer()
    left = ProjectedCombination().combined(given) - given.output
    for part in (slice(0, 3), slice(3, 5)):
        assert (left[part] * given.data[part]).sum().abs() < 1e-5
        across = given.update[part] - left[part]  # what is gone lies along the answer
        ratio = across / given.data[part]
        torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), atol=1e-4, rtol=1e-3)
    kept = ProjectedCombination(parallel=1.0).combined(given)
    torch.testing.assert_close(kept, given.output + given.update)


def test_apg_bounds_the_update_and_remembers_it():
    given = answer()
    bounded = ProjectedCombination(parallel=1.0, max_rms=0.1).combined(given) - given.output
    for part in (slice(0, 3), slice(3, 5)):
        assert (2 * bounded[part]).square().mean().sqrt() == pytest.approx(0.1, rel=1e-4)
    settings = ProjectedCombination(parallel=1.0, momentum=-0.5)
    first, second = (settings.combined(given) - given.output for _ in range(2))
    torch.testing.assert_close(first, given.update)
    torch.testing.assert_close(second, 0.5 * given.update)


def test_autoguidance_leads_away_from_the_weaker_model(samples: list[Sample]):
    config = SampleConfig.model_validate({"num_steps": 1, "guidance": {"kind": "autoguidance", "weight": 3}})
    objective, device = FlowConfig().build(), torch.device("cpu")

    def weak(x: Tensor, timesteps: Tensor, batch: PackedBatch) -> Tensor:
        return torch.full_like(x, -1.0)

    chosen = [replace(samples[0], text=torch.full((2, 12), 1.0))]
    (latent,) = generate(counting_caption, chosen, objective, config, SHAPE, 12, device, weaker=(weak, SHAPE))
    torch.testing.assert_close(latent, chosen[0].noise - (1 + 2 * (1 + 1)))
    with pytest.raises(ValueError, match="needs a weaker model, which `reelpack sample` loads"):
        generate(counting_caption, chosen, objective, config, SHAPE, 12, device)
    with pytest.raises(ValidationError, match="several weaker models of autoguidance; expected one"):
        SampleConfig.model_validate({"guidance": [{"kind": "autoguidance", "step": n} for n in (1, 2)]})
