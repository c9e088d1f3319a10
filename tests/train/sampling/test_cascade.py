"""A cascade of runs: what each stage is given, and what is refused before anything is drawn."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.train.autoencoder.models import save_model
from tests.train.test_loop import config as tiny
from train.loop import train
from train.sampling.cascade import Stage, draw_stages, handed_on, plan_stages
from train.sampling.config import SampleConfig
from train.sampling.given import Given
from train.sampling.guidance.config import ConstantGuidance
from train.sampling.request import Request
from train.sampling.sample import Generated, sample

STEPS = SampleConfig(num_steps=2, device="cpu", guidance=(ConstantGuidance(weight=1),))
ASKED = Request(prompt="", width=64, height=64, num_frames=17, seed=5)


@pytest.fixture(scope="module")
def runs(stored: str, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """`base` at 3 frames per second, `between` doubles 3 and 6, `larger` doubles sides."""
    folder = tmp_path_factory.mktemp("cascade")
    settings: dict[str, dict[str, Any]] = {
        "base": {"latents": "slowest"},
        "between": {"latents": ["lat0", "slow"], "conditioning": [{"kind": "temporal"}]},
        "larger": {"latents": "lat0", "conditioning": [{"kind": "spatial", "max_noise": 0.4}]},
    }
    common: dict[str, Any] = {
        "optimizer": {"lr": 0.02, "warmup_steps": 0},
        "evaluate": {"held_out": {"every": 0}, "captions": {"every": 0}},
        "checkpoint__every": 100,
    }
    for name, data in settings.items():
        data["plan"] = {"token_budget": 64, "packs_per_step": 1}
        train(tiny(steps=4, data=data, **common), stored, folder / name)
    return SimpleNamespace(**{name: str(folder / name) for name in settings})


def drawn(names: Sequence[str], asked: Sequence[Request], config: SampleConfig = STEPS) -> list[Generated]:
    return [result for _, result, _ in sorted(draw_stages(plan_stages(names, asked[0], config), asked), key=first)]


def first(one: tuple[int, object, object]) -> int:
    return one[0]


def test_each_stage_draws_from_what_the_stage_below_has_drawn(runs: SimpleNamespace):
    [last] = drawn([runs.base, runs.between, runs.between, runs.larger], [ASKED])
    assert last.latent.shape == (4, 5, 8, 8) and last.fps == 12.0 and last.seed == 5
    lower = None
    for part, (run, frames, size, fps, kind) in enumerate([
        (runs.base, 5, (32, 32), 3, None), (runs.between, 9, (32, 32), 6, "temporal"),
        (runs.between, 17, (32, 32), 12, "temporal"), (runs.larger, 17, (64, 64), 12, "spatial"),
    ]):  # fmt: skip
        given = {} if kind is None else {kind: lower}
        own = replace(ASKED, width=size[0], height=size[1], num_frames=frames, part=part, conditioning=given)
        lower = sample(run, [own], STEPS.model_copy(update={"fps": fps}))[0].latent
    assert torch.equal(last.latent, lower)


def test_several_videos_are_drawn_as_one_by_one_and_each_follows_its_own_lower_stage(runs: SimpleNamespace):
    stages = [runs.base, runs.larger]
    asked = [replace(ASKED, num_frames=5, seed=seed) for seed in (5, 6)]
    together = drawn(stages, asked)
    for request, one in zip(asked, together, strict=True):
        assert torch.allclose(drawn(stages, [request])[0].latent, one.latent, atol=1e-5)
    [noisy] = drawn(stages, asked[:1], STEPS.model_copy(update={"conditioning_noise": 0.4}))
    assert not torch.allclose(noisy.latent, together[0].latent, atol=1e-4)


def test_a_rate_that_is_asked_for_is_that_of_the_last_stage(runs: SimpleNamespace):
    config = STEPS.model_copy(update={"fps": 24.0})
    stages = plan_stages([runs.base, runs.between, runs.larger], replace(ASKED, num_frames=9), config)
    assert [(one.shape, one.settings.fps) for one in stages] == [
        ((5, 32, 32), 12.0), ((9, 32, 32), 24.0), ((9, 64, 64), 24.0),
    ]  # fmt: skip


def test_the_first_stage_alone_edits_and_is_given_something(runs: SimpleNamespace):
    asked = replace(ASKED, num_frames=5, given=Given(start=torch.zeros(4, 1, 4, 4)))
    first, last = plan_stages(
        [runs.base, runs.larger], replace(ASKED, num_frames=5), STEPS.model_copy(update={"strength": 0.5})
    )
    assert (first.settings.strength, last.settings.strength) == (0.5, 1.0)
    assert first.request(asked, 0, None).given and not last.request(asked, 1, torch.zeros(4, 2, 4, 4)).given


def test_stages_that_do_not_fit_are_refused_with_all_reasons(runs: SimpleNamespace):
    def refused(names: Sequence[str], message: str, asked: Request = ASKED, **settings: object) -> None:
        with pytest.raises(ValueError, match=message):
            plan_stages(names, asked, STEPS.model_copy(update=settings))

    wrong = r"larger was trained on .*spatial, and is the first.*; .*base was conditioned on nothing, .*place 2"
    refused([runs.larger, runs.base], wrong)
    with pytest.raises(ValueError, match=r"stage of a cascade.*conditioned on spatial.*BELOW RUN"):
        sample(runs.larger, [ASKED], STEPS)
    refused(
        [runs.base, runs.between],
        "stage 2, .*: 2 frames for one .* do not make 4; ask for",
        replace(ASKED, num_frames=4),
    )
    refused(
        [runs.base, runs.between], "stage 1, .*: got 4 frames .*nearest .* are 5 frames", replace(ASKED, num_frames=7)
    )
    both = "stage 1, .*nearest.*5 frames of 32x32; stage 2, .*nearest.*5 frames of 64x64"
    refused([runs.base, runs.larger], both, replace(ASKED, num_frames=4, width=66, height=66))
    refused(
        [runs.base, runs.larger],
        r"conditioning_noise=0\.45: .*0 to 0\.4",
        replace(ASKED, num_frames=5),
        conditioning_noise=0.45,
    )
    refused([runs.base, runs.larger], "names a checkpoint of one run, and there are 2", step=3)


def test_latents_of_another_space_are_handed_on_through_pixels(runs: SimpleNamespace, tmp_path: Path):
    stages = plan_stages([runs.base, runs.larger], replace(ASKED, num_frames=5), STEPS)
    autoencoder = save_model("stable_diffusion", tmp_path)
    built = autoencoder.build()
    facts = {
        "config": {"autoencoder": autoencoder.model_dump(mode="json")},
        "autoencoder_fingerprint": built.fingerprint,
    }

    def of(stage: Stage, **others: object) -> Stage:
        record = replace(stage.record, latents={**stage.record.latents, **facts, **others})
        return replace(stage, record=record)

    latent = torch.randn(built.channels, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    assert handed_on([latent], of(stages[0]), of(stages[1]))[0] is latent
    [through] = handed_on([latent], of(stages[0]), of(stages[1], channels=1))
    expected = built.encode(built.decode(latent).clamp(-1, 1))
    assert through is not None and torch.equal(through, expected) and not torch.equal(through, latent)
