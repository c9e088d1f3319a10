"""The step back from a noise level t to a lower one s, if the data are known."""

from typing import NamedTuple

from torch import Tensor


class Posterior(NamedTuple):
    """q(x_s | x_t, x_0) = N(from_x0 · x_0 + from_xt · x_t, variance)."""

    from_x0: Tensor
    from_xt: Tensor
    beta: Tensor  # variance of the noise that is added between s and t
    variance: Tensor


def posterior(alpha: Tensor, sigma: Tensor, alpha_s: Tensor, sigma_s: Tensor) -> Posterior:
    """Of levels t and s, float64 of any shape (Kingma et al. 2021, appendix A; Ho et al. 2020, eq. 6-7, where alpha²
    + sigma² = 1). The variance is 0 where s is the data."""
    ratio = alpha / alpha_s
    beta = sigma**2 - (ratio * sigma_s) ** 2
    left = (sigma_s / sigma) ** 2
    return Posterior(alpha_s * beta / sigma**2, ratio * left, beta, beta * left)
