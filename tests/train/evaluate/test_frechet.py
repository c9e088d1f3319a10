"""The Fréchet distance: closed forms, and sets that are smaller than the features are many."""

import pytest
import torch

from train.evaluate.frechet import Gaussian, frechet_distance


def features(count: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, generator=generator) @ torch.randn(width, width, generator=generator) + seed


def test_of_gaussians_whose_axes_agree_it_is_the_distance_of_means_and_deviations() -> None:
    one = Gaussian(mean=torch.tensor([1.0, 2.0]).double(), covariance=torch.tensor([4.0, 9.0]).double().diag())
    other = Gaussian(mean=torch.tensor([0.0, 4.0]).double(), covariance=torch.tensor([1.0, 16.0]).double().diag())
    assert frechet_distance(one, other) == pytest.approx((1 + 4) + (2 - 1) ** 2 + (3 - 4) ** 2)
    turn = torch.linalg.qr(torch.randn(2, 2, generator=torch.Generator().manual_seed(0)).double()).Q
    turned = [Gaussian(mean=turn @ g.mean, covariance=turn @ g.covariance @ turn.T) for g in (one, other)]
    assert frechet_distance(*turned) == pytest.approx(7)


def test_the_root_is_that_of_the_product_of_covariances() -> None:
    one, other = (Gaussian.of(features(200, 8, seed)) for seed in (1, 2))
    root = torch.linalg.eigvals(one.covariance @ other.covariance).sqrt().sum().real
    wanted = (one.mean - other.mean).square().sum() + (one.covariance + other.covariance).trace() - 2 * root
    assert frechet_distance(one, other) == pytest.approx(float(wanted))
    assert frechet_distance(one, other) == pytest.approx(frechet_distance(other, one))


@pytest.mark.parametrize(("count", "width"), [(500, 16), (5, 64), (2, 32)])
def test_equal_sets_have_no_distance_and_shifted_ones_that_of_the_shift(count: int, width: int) -> None:
    x = features(count, width)
    assert frechet_distance(Gaussian.of(x), Gaussian.of(x)) == pytest.approx(0, abs=1e-5)
    assert frechet_distance(Gaussian.of(x), Gaussian.of(x + 3)) == pytest.approx(9 * width, rel=1e-5)


def test_sets_of_one_distribution_are_apart_the_more_the_smaller_they_are() -> None:
    found = [frechet_distance(Gaussian.of(x[:n]), Gaussian.of(x[n : 2 * n])) for n in (20, 100, 1000)
             for x in [torch.randn(2000, 16, generator=torch.Generator().manual_seed(0))]]  # fmt: skip
    assert found[0] > 2 * found[1] > 4 * found[2] > 0


def test_moments_are_those_of_the_samples_in_float64() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    found = Gaussian.of(x)
    torch.testing.assert_close(found.mean, torch.tensor([2.0, 4.0]).double())
    torch.testing.assert_close(found.covariance, torch.tensor([[2.0, 4.0], [4.0, 8.0]]).double())


@pytest.mark.parametrize(
    ("x", "message"), [(torch.ones(1, 3), "got 1 samples"), (torch.full((3, 2), torch.nan), "not fi")]
)
def test_sets_without_a_covariance_are_refused(x: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Gaussian.of(x)
