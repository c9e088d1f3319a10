"""The adversary: closed forms of its losses, and a run that resumes bitwise with it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from tests.train.autoencoder.training.test_loop import config, run
from train.autoencoder.training.adversary import Adversary, adaptive_weight
from train.autoencoder.training.config import AdversaryConfig
from train.autoencoder.training.loop import AutoencoderRun
from train.run.checkpoint import list_checkpoints

SMALL: dict[str, Any] = {"width": 8, "depth": 2, "start": 2}


def adversary(**settings: Any) -> Adversary:
    torch.manual_seed(0)
    return Adversary(AdversaryConfig(**{**SMALL, **settings}))


@pytest.mark.parametrize("over_time", [True, False])
def test_it_judges_patches_and_frames_alone_only_without_time(over_time: bool) -> None:
    judge = adversary(over_time=over_time)
    video = torch.randn(2, 3, 5, 24, 32)
    logits = judge(video)
    assert logits.shape == (2, 1, 5, 6, 8) and judge(video[:, :, :1]).shape == (2, 1, 1, 6, 8)
    frozen = judge(video[:, :, [0, 0, 0, 0, 0]])
    alone = torch.allclose(logits[:, :, 0], frozen[:, :, 0], atol=1e-5)
    assert alone != over_time or not over_time


def test_its_loss_is_the_hinge_of_both() -> None:
    judge, video, out = adversary(), torch.randn(1, 3, 1, 16, 16), torch.randn(1, 3, 1, 16, 16)
    loss, figures = judge.own_loss(video, out)
    real, fake = judge(video), judge(out)
    torch.testing.assert_close(loss, (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2)
    assert figures["real_logit"] == real.mean() and figures["fake_logit"] == fake.mean()
    torch.testing.assert_close(judge.reconstruction_loss(out), -fake.mean())


def test_penalties_are_those_of_their_papers() -> None:
    video, out = torch.randn(2, 3, 1, 16, 16), torch.randn(2, 3, 1, 16, 16)
    plain, _ = adversary().own_loss(video, out)
    sloped, _ = adversary(r1=3.0).own_loss(video, out)
    x = video.clone().requires_grad_()
    (slope,) = torch.autograd.grad(adversary()(x).sum(), x)
    torch.testing.assert_close(sloped - plain, 1.5 * slope.square().sum((1, 2, 3, 4)).mean())
    anchored = adversary(lecam=2.0)
    unknown, _ = anchored.own_loss(video, out)
    torch.testing.assert_close(unknown, plain)
    anchored.update(0.7, -0.4)
    held, _ = anchored.own_loss(video, out)
    real, fake = anchored(video), anchored(out)
    wanted = F.relu(real + 0.4).square().mean() + F.relu(0.7 - fake).square().mean()
    torch.testing.assert_close(held - plain, 2.0 * wanted)


def test_averages_of_logits_begin_at_the_first_and_follow_slowly() -> None:
    judge = adversary(lecam=1.0)
    for real, wanted in ((3.0, 3.0), (1.0, 2.0)):
        judge.update(real, -real)
        torch.testing.assert_close(judge.logits, torch.tensor([wanted, -wanted]))
    for _ in range(2000):
        judge.update(0.0, 0.0)
    judge.update(1.0, 0.0)
    assert judge.logits[0] == pytest.approx(0.01, abs=1e-3)


def test_the_adaptive_weight_makes_both_gradients_equally_long() -> None:
    layer = torch.randn(4, 4, requires_grad=True)
    x = torch.randn(3, 4)
    rebuilding, fooling = (x @ layer).square().mean(), 100 * (x @ layer).mean()
    weight = adaptive_weight(rebuilding, fooling, layer)
    (first,) = torch.autograd.grad(rebuilding, layer, retain_graph=True)
    (second,) = torch.autograd.grad(weight * fooling, layer)
    torch.testing.assert_close(first.norm(), second.norm(), rtol=1e-3, atol=0)


def test_it_learns_to_tell_videos_from_blurred_ones() -> None:
    judge = adversary()
    optimizer = torch.optim.Adam(judge.parameters(), lr=2e-3)
    for step in range(60):
        video = torch.randn(4, 3, 2, 16, 16, generator=torch.Generator().manual_seed(step))
        loss, figures = judge.own_loss(video, F.avg_pool3d(video, (1, 3, 3), 1, (0, 1, 1)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert figures["real_logit"] > 0.5 and figures["fake_logit"] < -0.5


def test_it_counts_from_its_start_and_a_run_with_it_resumes_bitwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(steps=6, loss={"adversary": {**SMALL, "lecam": 0.1, "r1": 0.1}})
    optimize = AutoencoderRun._optimize

    def stops(self: AutoencoderRun, video: torch.Tensor) -> dict[str, Any]:
        if self.step == 5:
            raise KeyboardInterrupt
        return optimize(self, video)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(AutoencoderRun, "_optimize", stops)
        run(tmp_path / "stopped", settings)
    assert list_checkpoints(tmp_path / "stopped" / "checkpoints")
    rows = [run(tmp_path / name, settings) for name in ("whole", "stopped")]
    assert [row["step"] for row in rows[0] if "adversary_loss" in row] == [3, 4, 5, 6]
    whole, resumed = (tmp_path / name / "weights" / "model.safetensors" for name in ("whole", "stopped"))
    assert whole.read_bytes() == resumed.read_bytes()
    plain = run(tmp_path / "plain", config(steps=6))
    losses = [[row["loss"] for row in of_run if "loss" in row] for of_run in (rows[0], plain)]
    assert losses[0][:3] == losses[1][:3] and losses[0][3:] != losses[1][3:]
