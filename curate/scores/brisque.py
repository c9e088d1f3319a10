"""BRISQUE: image quality without a reference, from the statistics of natural images.

Mittal, Moorthy, Bovik 2012, "No-Reference Image Quality Assessment in the Spatial Domain" (IEEE TIP 21:12), section
III: local contrast-normalised luma (MSCN), generalised Gaussians fitted to it and to the products of neighbors, at two
scales; a support vector regression that was trained on the LIVE database makes a score of the 36 parameters.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from typing import ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from curate.encoders import weights
from curate.encoders.base import EncoderPool
from curate.encoders.brisque_svr import SupportVectorRegression, load_svr
from curate.encoders.fingerprint import path_digest
from curate.rules import Column
from curate.schema import content_digest
from curate.scores.base import Value
from curate.scores.frames import ClipFrames

WEIGHTS = "brisque-live"
WINDOW_PX, WINDOW_SIGMA = 7, 7 / 6
MIN_SIDE_PX = 16
NEIGHBORS = ((0, 1), (1, 0), (1, 1), (-1, 1))
"""H, V, D1, D2 of the paper's equations 7–10, as (down, right)."""


class BrisqueConfig(BaseModel):
    """On how many frames."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["brisque"] = "brisque"
    columns: ClassVar[Mapping[str, Column]] = {
        "brisque": Column(description="lack of quality, about 0 (pristine) to 100 (badly distorted)", range=(-50, 200))
    }
    num_frames: int = Field(
        4, ge=1, description="of the sampled frames, how many are evaluated; quality changes little within a shot"
    )

    def build(self) -> "BrisqueScorer":
        return BrisqueScorer(self)


class BrisqueScorer:
    """`brisque`: mean over the frames; about 0 (pristine) to 100 (badly distorted), not bounded: *lower* is better.

    It sees the frames as sampled: blur and blocks that scaling down to `short_side_px` removes do not count. Its
    statistics do not describe drawn and flat images, so compare clips of one kind. Frames with a side below
    16 px are enlarged to that.
    """

    def __init__(self, config: BrisqueConfig) -> None:
        self.config = config
        self._regression: SupportVectorRegression | None = None

    @cached_property
    def key(self) -> str:
        return content_digest(self.config.kind, path_digest(weights.resolve(WEIGHTS)), str(self.config.num_frames))

    def setup(self, encoders: EncoderPool) -> None:
        """Load the regression.

        Raises:
            MissingWeights: it was not fetched.
        """
        self._regression = load_svr(weights.resolve(WEIGHTS))

    def score(self, clips: Sequence[ClipFrames]) -> list[dict[str, Value]]:
        assert self._regression is not None, "setup() comes first"
        return [{"brisque": float(self._regression(self._features(clip)).mean())} for clip in clips]

    def _features(self, clip: ClipFrames) -> np.ndarray:
        """(n, 36) float64, of the n frames that are evaluated."""
        return np.stack([brisque_features(clip.gray[index]) for index in clip.spread(self.config.num_frames)])


def brisque_features(gray: np.ndarray) -> np.ndarray:
    """(H, W) uint8 luma to the 36 features of the paper's table I: 18 at full size, 18 at half."""
    import cv2

    image = gray.astype(np.float64)
    enlarge = MIN_SIDE_PX / min(image.shape)
    if enlarge > 1:
        image = np.asarray(cv2.resize(image, None, fx=enlarge, fy=enlarge, interpolation=cv2.INTER_CUBIC), float)
    half = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_CUBIC)
    return np.concatenate([_features_at_one_scale(image), _features_at_one_scale(half)])


def _features_at_one_scale(image: np.ndarray) -> np.ndarray:
    """(H, W) in 0..255 to 18 features."""
    normalized = _mscn(image)
    shape, left, right = fit_asymmetric_gaussian(normalized)
    features = [shape, (left**2 + right**2) / 2]
    height, width = normalized.shape
    for down, across in NEIGHBORS:
        top = normalized[max(-down, 0) : height - max(down, 0), : width - across]
        other = normalized[max(down, 0) : height - max(-down, 0), across:]
        shape, left, right = fit_asymmetric_gaussian(top * other)
        # η of equation 15, with βₗ and βᵣ written out
        one, two, three = (math.gamma(n / shape) for n in (1, 2, 3))
        features += [shape, (right - left) * two / math.sqrt(one * three), left**2, right**2]
    return np.array(features)


def _mscn(image: np.ndarray) -> np.ndarray:
    """Mean-subtracted, contrast-normalised luma: equations 1–3, with C = 1."""
    import cv2

    def blurred(x: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(x, (WINDOW_PX, WINDOW_PX), WINDOW_SIGMA, borderType=cv2.BORDER_REPLICATE)

    mean = blurred(image)
    variance = blurred(image * image)
    variance -= mean * mean
    deviation = np.sqrt(np.abs(variance, out=variance), out=variance)
    deviation += 1
    image = image - mean
    image /= deviation
    return image


def fit_asymmetric_gaussian(x: np.ndarray) -> tuple[float, float, float]:
    """Shape α and the deviations σₗ, σᵣ of an asymmetric generalised Gaussian, by moments.

    Lasmar, Stitou, Berthoumieu 2009, "Multiscale skewed heavy tailed model for texture analysis", as the paper has it.
    Where x is 0 everywhere (a flat image) the shape is the largest of the table.
    """
    import cv2

    shapes, ratios = _shape_table()
    sides = np.minimum(x, 0), np.maximum(x, 0)
    squares = [cv2.norm(side, cv2.NORM_L2SQR) for side in sides]
    left, right = (math.sqrt(sum_ / max(1, cv2.countNonZero(side))) for sum_, side in zip(squares, sides, strict=True))
    if not left and not right:
        return float(shapes[-1]), 0.0, 0.0
    gamma = left / right if right else math.inf
    # (γ³ + 1)(γ + 1) / (γ² + 1)², which is 1 for sides that are as different as can be
    skew = (gamma**3 + 1) * (gamma + 1) / (gamma**2 + 1) ** 2 if 1e-6 < gamma < 1e6 else 1.0
    ratio = cv2.norm(x, cv2.NORM_L1) ** 2 / (x.size * sum(squares)) * skew
    return float(shapes[np.argmin(np.abs(ratios - ratio))]), left, right


@cache
def _shape_table() -> tuple[np.ndarray, np.ndarray]:
    """Shapes α from 0.2 to 10 and what ratio of moments each has: Γ(2/α)² / (Γ(1/α) Γ(3/α))."""
    shapes = np.arange(200, 10001) / 1000
    log_gamma = np.vectorize(math.lgamma)
    return shapes, np.exp(2 * log_gamma(2 / shapes) - log_gamma(1 / shapes) - log_gamma(3 / shapes))
