"""Bottlenecks: their closed forms, the way back from ids, and a codebook that lives."""

from pathlib import Path
from typing import get_args

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from tests.support.forks import start_both
from train.autoencoder.bottlenecks.base import Bottleneck, usage
from train.autoencoder.bottlenecks.config import BottleneckConfig, FSQConfig, KLConfig, VQConfig
from train.autoencoder.bottlenecks.fsq import FSQ
from train.autoencoder.bottlenecks.kl import KL, kl_divergence
from train.autoencoder.bottlenecks.vq import VQ

CHANNELS = 4
CONFIGS = {
    "kl": KLConfig(),
    "vq": VQConfig(codebook_size=16),
    "fsq": FSQConfig(levels=(8, 5, 4, 2)),
}


def built(kind: str) -> Bottleneck:
    torch.manual_seed(0)
    return CONFIGS[kind].build(CHANNELS)


def outputs(bottleneck: Bottleneck, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, bottleneck.num_inputs, 3, 2, 2, generator=generator)


def noise() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_every_member_is_tried() -> None:
    members = get_args(get_args(BottleneckConfig)[0])
    assert {type(config) for config in CONFIGS.values()} == set(members)


@pytest.mark.parametrize("kind", CONFIGS)
class TestContract:
    def test_shapes_gradients_and_equal_noise_equal_codes(self, kind: str) -> None:
        bottleneck = built(kind)
        x = outputs(bottleneck).requires_grad_()
        coded = bottleneck.code(x, noise())
        assert coded.latent.shape == bottleneck.latent(x).shape == (2, bottleneck.num_channels, 3, 2, 2)
        assert coded.loss.shape == () and coded.loss.isfinite()
        (coded.latent.square().mean() + coded.loss).backward()
        assert x.grad is not None and x.grad.isfinite().all() and x.grad.any()
        assert torch.equal(coded.latent, bottleneck.code(x, noise()).latent)
        assert bottleneck.num_channels == CONFIGS[kind].num_channels(CHANNELS)

    def test_ids_lead_back_to_the_vectors(self, kind: str) -> None:
        bottleneck = built(kind)
        latent = bottleneck.latent(outputs(bottleneck))
        if bottleneck.num_codes is None:
            with pytest.raises(TypeError, match="no ids"):
                bottleneck.ids(latent)
            return
        ids = bottleneck.ids(latent)
        assert ids.shape == (2, 3, 2, 2) and ids.min() >= 0 and ids.max() < bottleneck.num_codes
        assert torch.equal(bottleneck.vectors(ids), latent)
        every = torch.arange(bottleneck.num_codes).view(1, -1, 1, 1)
        assert torch.equal(bottleneck.ids(bottleneck.vectors(every)), every)

    def test_what_is_not_finite_is_not_hidden_in_a_code(self, kind: str) -> None:
        bottleneck = built(kind)
        x = outputs(bottleneck)
        x[0, 1, 2, 0, 1] = torch.nan
        latent = bottleneck.latent(x)
        assert latent[0, :, 2, 0, 1].isnan().any()
        assert latent.isnan().any(1).sum() == 1

    def test_the_latent_that_is_stored_is_the_one_that_is_trained(self, kind: str) -> None:
        bottleneck = built(kind)
        x = outputs(bottleneck)
        if isinstance(bottleneck, KL):
            mean, logvar = x.chunk(2, dim=1)
            samples = torch.stack([bottleneck.code(x, torch.Generator().manual_seed(i)).latent for i in range(400)])
            torch.testing.assert_close(samples.mean(0), mean, atol=0.6, rtol=0)
            torch.testing.assert_close(samples.std(0), (0.5 * logvar).exp(), rtol=0.2, atol=0.02)
        else:
            torch.testing.assert_close(bottleneck.code(x, noise()).latent, bottleneck.latent(x))


def test_the_divergence_is_that_of_gaussians() -> None:
    mean, logvar = torch.randn(1, 2, 1, 2, 2), torch.randn(1, 2, 1, 2, 2)
    posterior = torch.distributions.Normal(mean, (0.5 * logvar).exp())
    wanted = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).mean()
    torch.testing.assert_close(kl_divergence(mean, logvar), wanted)


def test_the_nearest_code_is_the_nearest() -> None:
    vq = built("vq")
    assert isinstance(vq, VQ)
    x = outputs(vq)
    rows = x.movedim(1, -1).reshape(-1, CHANNELS)
    wanted = torch.cdist(rows, vq.codebook).argmin(1).view(2, 3, 2, 2)
    assert torch.equal(vq.nearest(x), wanted)
    assert torch.equal(vq.vectors(wanted), vq.codebook[wanted].permute(0, 4, 1, 2, 3))


def test_codes_that_float16_tells_apart_are_told_apart() -> None:
    vq = built("vq")
    assert isinstance(vq, VQ)
    vq.codebook.copy_(vq.codebook.half().float() * 4)
    vq.codebook[1::2] = vq.codebook[::2]
    vq.codebook[1::2, 0] = torch.nextafter(vq.codebook[::2, 0].half(), torch.tensor(100.0).half()).float()
    every = torch.arange(16).view(1, -1, 1, 1)
    assert torch.equal(vq.ids(vq.vectors(every)), every)


def test_the_decoders_gradient_passes_straight_through_and_the_commitment_draws_to_the_code() -> None:
    vq = VQConfig(codebook_size=16, commitment=2.0).build(CHANNELS)
    x = outputs(vq).requires_grad_()
    coded = vq.code(x, noise())
    given = torch.randn_like(coded.latent)
    (straight,) = torch.autograd.grad((coded.latent * given).sum(), x, retain_graph=True)
    assert torch.equal(straight, given)
    (drawn,) = torch.autograd.grad(coded.loss, x)
    torch.testing.assert_close(drawn, 2.0 * 2 * (x - vq.latent(x)).detach() / x.numel())


def test_codes_follow_the_means_of_their_outputs() -> None:
    vq = VQConfig(codebook_size=4, revive_below=0).build(2)
    assert isinstance(vq, VQ)
    centers = torch.tensor([[3.0, 0], [-3, 0], [0, 3], [0, -3]])
    generator = torch.Generator().manual_seed(1)
    for step in range(400):
        chosen = centers[torch.randint(4, (64,), generator=generator)]
        x = (chosen + 0.1 * torch.randn(64, 2, generator=generator)).T[None, :, :, None, None]
        vq.update(vq.code(x, generator), generator)
        if not step:  # whatever the first draw was, each center has a code
            vq.codebook.copy_(centers + 0.5)
            vq.sums.copy_(vq.codebook)
    assert torch.cdist(vq.codebook, centers).min(1).values.max() < 0.1


@pytest.mark.parametrize(("revive_below", "most_used"), [(0.03, 1.0), (0.0, 0.5)])
def test_idle_codes_are_put_on_outputs(revive_below: float, most_used: float) -> None:
    """A codebook of which most codes lie far from every output."""
    vq = VQConfig(codebook_size=64, revive_below=revive_below, decay=0.9).build(2)
    assert isinstance(vq, VQ)
    vq.is_begun.fill_(True)
    vq.codebook[1:] += 100
    vq.sums.copy_(vq.codebook)
    generator = torch.Generator().manual_seed(0)
    used = 0.0
    for _ in range(80):
        coded = vq.code(torch.randn(1, 2, 512, 1, 1, generator=generator), generator)
        vq.update(coded, generator)
        used = float(coded.metrics["code_usage"])
    assert used > 0.8 if revive_below else used < most_used


def test_usage_and_perplexity() -> None:
    even, one = torch.arange(8).repeat(3), torch.zeros(24, dtype=torch.int64)
    assert {name: float(value) for name, value in usage(even, 16).items()} == pytest.approx(
        {"code_usage": 0.5, "perplexity": 8.0}
    )
    assert {name: float(value) for name, value in usage(one, 16).items()} == pytest.approx(
        {"code_usage": 1 / 16, "perplexity": 1.0}
    )


@pytest.mark.parametrize("num_levels", [2, 3, 4, 5, 8])
def test_fsq_reaches_every_level_and_no_other(num_levels: int) -> None:
    fsq = FSQConfig(levels=(num_levels,)).build(1)
    x = torch.linspace(-20, 20, 4001).view(1, 1, -1, 1, 1)
    latent = fsq.latent(x)
    levels = [(i - num_levels // 2) / (num_levels // 2) for i in range(num_levels)]
    assert latent.unique().tolist() == pytest.approx(levels)
    assert (latent.flatten().diff() >= 0).all()
    assert fsq.ids(latent).unique().tolist() == list(range(num_levels))
    middle = FSQConfig(levels=(num_levels,)).build(1).latent(torch.zeros(1, 1, 1, 1, 1))
    assert abs(float(middle)) <= 1 / (num_levels // 2)


def test_levels_that_are_no_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="2 or more of each channel"):
        FSQConfig(levels=(8, 1))
    assert isinstance(FSQConfig().build(16), FSQ)


def _learned(rank: int, world_size: int) -> Tensor:
    """The codebook after steps in which every rank has its part of the same batches."""
    vq = VQConfig(codebook_size=8, decay=0.9, revive_below=0.0).build(2)
    assert isinstance(vq, VQ)
    vq.codebook.copy_(torch.randn(8, 2, generator=noise()))
    vq.sums.copy_(vq.codebook)
    vq.is_begun.fill_(True)
    for step in range(5):
        rows = torch.randn(64, 2, generator=torch.Generator().manual_seed(step))
        coded = vq.code(rows[rank::world_size].T[None, :, :, None, None], noise())
        vq.update(coded, noise())
    return vq.codebook


def _one_of_two(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save(_learned(rank, 2), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_learn_the_codebook_of_one(tmp_path: Path) -> None:
    start_both(_one_of_two, str(tmp_path))
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert torch.equal(first, second)
    torch.testing.assert_close(first, _learned(0, 1), rtol=1e-5, atol=1e-6)
