"""Sharpness: how much fine detail the low-resolution frames have."""

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from curate.rules import Column
from curate.signals.base import ScanFrame


class SharpnessSignal:
    """`sharpness`: variance of the Laplacian of luma (0-255), mean over the frames.

    Measured on the low-resolution frames of the pass: it finds frames that are out of focus, smeared or empty. It
    cannot tell real 1080p from an upscaled 360p, because both have the same low-resolution frames.
    """

    columns: ClassVar[Mapping[str, Column]] = {
        "sharpness": Column(
            description="variance of the Laplacian of luma (0-255) at low resolution", range=(0, math.inf)
        )
    }
    num_values: ClassVar[int] = 1

    def measure(self, frame: ScanFrame) -> tuple[float, ...]:
        import cv2

        edges = cv2.Laplacian(frame.luma, cv2.CV_16S)
        return (cv2.norm(edges, cv2.NORM_L2SQR) / edges.size - cv2.mean(edges)[0] ** 2,)

    @staticmethod
    def summarize(values: np.ndarray, starts_s: np.ndarray, end_s: float) -> dict[str, float]:
        """`values`: `(n, 1)`, the variance per frame."""
        return {"sharpness": float(values.mean())}
