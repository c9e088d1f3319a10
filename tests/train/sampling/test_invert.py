"""Editing by inversion (DDIM, Song et al. 2021, §4.3) and null-text optimization (Mokady et al. 2022, §3.2)."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.train.sampling.gaussian import MEAN, STD, exact, prediction
from train.model.conditioning import absent_caption
from train.model.dit import DiT
from train.model.dit_config import DiTConfig
from train.objective.base import Objective
from train.objective.config import DDPMConfig, FlowConfig
from train.packing.batch import PackedBatch, Sample
from train.sampling.config import SampleConfig
from train.sampling.invert import edit

SHAPE = DiTConfig(width=32, depth=2, num_heads=2)
CPU = torch.device("cpu")
OBJECTIVES = [
    FlowConfig(),
    FlowConfig(shift=3.0),
    DDPMConfig(),
    DDPMConfig(learn_sigma=True),
    DDPMConfig(prediction="x0"),
    DDPMConfig(schedule="cosine", prediction="v"),
]


def settings(num_steps: int, sampler: str = "euler", **more: Any) -> SampleConfig:
    return SampleConfig.model_validate({"num_steps": num_steps, "sampler": sampler, "guidance": 1} | more)


def gaussian(objective: Objective, asked: list[float] | None = None) -> Callable[..., Tensor]:
    """The exact model of data N(mean, STD²), whose mean is MEAN plus what the caption's states are."""
    config: Any = objective.config

    def model(x: Tensor, timesteps: Tensor, batch: PackedBatch) -> Tensor:
        if asked is not None:
            asked.append(float(timesteps[0]))
        if config.kind == "flow":
            alpha, sigma = 1 - timesteps.double(), timesteps.double()
        else:
            cumulative = objective.alphas_cumprod[(timesteps * config.num_timesteps).round().long()]
            alpha, sigma = cumulative.sqrt(), (1 - cumulative).sqrt()
        shift = batch.text_segments.mean(batch.text.float())[:, 0]  # (S,)
        alpha, sigma, mean = (batch.segments.gather(v)[:, None] for v in (alpha, sigma, MEAN + shift.double()))
        found = exact(x.double(), alpha, sigma, mean)
        output = prediction(objective, found, alpha, sigma).float()
        return torch.cat([output, -torch.ones_like(output)], 1) if config.num_outputs == 2 else output

    return model


def captioned(samples: list[Sample], value: float) -> list[Sample]:
    """As data of that model, under a caption that says `value`."""
    return [
        replace(one, latent=MEAN + value + STD * one.noise.flip(1), text=torch.full((2, 12), value)) for one in samples
    ]


def changed(one: list[Tensor], other: list[Tensor]) -> Tensor:
    return torch.cat([(a - b).flatten() for a, b in zip(one, other, strict=True)])


PAIRS = [(sampler, config) for config in OBJECTIVES for sampler in ("euler", "heun")] + [("ddim", DDPMConfig())]


@pytest.mark.parametrize(("sampler", "config"), PAIRS, ids=str)
def test_a_clip_comes_back_to_an_error_that_falls_with_the_steps(samples: list[Sample], sampler: str, config: Any):
    """Of 160 steps: below 4 % of the data's deviation at order 1; Heun's there and back cancel to order 3."""
    objective, clips = config.build(), captioned(samples[:2], 0.0)

    def error(num_steps: int) -> float:
        back = edit(gaussian(objective), clips, clips, objective, settings(num_steps, sampler), SHAPE, 12, CPU)
        return changed(back, [clip.latent for clip in clips]).abs().mean().item()

    few, many = error(40), error(160)
    of_order = {"heun": (2e-4, 2.3)}
    tolerance, order = of_order.get(sampler, (0.04, 0.8))
    assert many < tolerance * STD and math.log2(few / many) / 2 > order


@pytest.mark.parametrize("config", [FlowConfig(), DDPMConfig()], ids=lambda config: config.kind)
def test_what_the_new_prompt_says_changes_and_the_rest_stays(samples: list[Sample], config: Any):
    objective, clips = config.build(), captioned(samples[:2], -0.5)
    asked: list[float] = []
    made = edit(
        gaussian(objective, asked), clips, captioned(samples[:2], 1.0), objective, settings(40, "heun"), SHAPE, 12, CPU
    )
    moved = changed(made, [clip.latent for clip in clips])
    assert moved.mean().item() == pytest.approx(1.5, abs=0.02) and moved.std() < 0.02
    assert min(asked) > 0 and len(asked) == 4 * 40 - 2, "the model is never asked at the data, which it never saw"


def test_with_a_strength_the_way_to_noise_ends_earlier(samples: list[Sample]):
    objective, clips, asked = FlowConfig().build(), captioned(samples[:1], 0.0), list[float]()
    model = gaussian(objective, asked)
    other = captioned(samples[:1], 1.0)
    (half,) = edit(model, clips, other, objective, settings(10, strength=0.5), SHAPE, 12, CPU)
    assert asked == pytest.approx([0.1, 0.1, 0.2, 0.3, 0.4, 0.5, 0.4, 0.3, 0.2, 0.1])
    (whole,) = edit(model, clips, other, objective, settings(10), SHAPE, 12, CPU)
    nearer, farther = ((one - clips[0].latent).abs().mean() for one in (half, whole))
    assert nearer < 0.8 * farther


def test_guidance_is_of_the_way_back_alone(samples: list[Sample]):
    objective, clips, branches = FlowConfig().build(), captioned(samples[:1], 0.0), list[int]()
    model = gaussian(objective)

    def watched(x: Tensor, timesteps: Tensor, batch: PackedBatch) -> Tensor:
        branches.append(batch.segments.num_segments)
        return model(x, timesteps, batch)

    edit(watched, clips, clips, objective, settings(3, guidance=4), SHAPE, 12, CPU)
    assert branches == [1, 1, 1, 2, 2, 2]


@pytest.fixture(scope="module")
def network() -> DiT:
    """A small model whose answers depend on the caption, and on there being none."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = DiT(SHAPE, channels=4, text_dim=12)
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape)
    return model.eval()


def reconstructed(network: DiT, clips: list[Sample], null_text: int, **more: Any) -> list[Tensor]:
    config = settings(8, null_text=null_text, guidance=4, **more)
    told: list[float] = []
    absent = absent_caption(network)
    made = edit(
        network, clips, clips, FlowConfig().build(), config, SHAPE, 12, CPU, absent=absent, on_progress=told.append
    )
    assert told == sorted(told) and told[0] < 0.1 and told[-1] > 0.9
    return made


def test_under_guidance_a_clip_comes_back_nearer_with_null_text_optimization(network: DiT, samples: list[Sample]):
    clips = samples[:2]
    errors = [
        changed(reconstructed(network, clips, n), [c.latent for c in clips]).square().mean().item() for n in (0, 1, 10)
    ]
    assert errors[2] < 0.7 * errors[0] and errors[2] < errors[1]


def test_null_text_without_an_iteration_is_the_model_s_own_absent_caption(
    network: DiT, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
):
    """As many copies of its one token change nothing."""
    monkeypatch.setattr("train.sampling.invert.NULL_LR", 0.0)
    for one, other in zip(*(reconstructed(network, samples[:2], n) for n in (0, 1)), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_an_edited_clip_is_the_same_in_any_pack(network: DiT, samples: list[Sample]):
    together = reconstructed(network, samples[:3], 2)
    apart = [latent for one in samples[:3] for latent in reconstructed(network, [one], 2)]
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(one, other, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampler": "dpm-solver++"}, r"sampler: dpm-solver\+\+ draws noise, or .*; take euler, heun, or ddim"),
        ({"sampler": "unipc"}, "sampler: unipc draws noise, or"),
        ({"sampler": "ancestral"}, "sampler: ancestral draws noise, or"),
        ({"sampler": {"kind": "ddim", "eta": 0.5}}, "sampler: ddim draws noise, or"),
        ({"sampler": "heun", "null_text": 3}, "null_text: a step of heun asks the model twice"),
        ({"null_text": 3, "guidance": []}, "null_text .* got no rule that drops the caption; expected guidance"),
        ({"null_text": 3, "guidance": 4, "negative": "a cat"}, "null_text .* got the negative prompt 'a cat'"),
    ],
)
def test_what_cannot_be_inverted_is_refused_with_what_can(changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        SampleConfig.model_validate(changes).check_inversion()
    for sampler in ("euler", "ddim", "heun"):
        SampleConfig.model_validate({"sampler": sampler}).check_inversion()
