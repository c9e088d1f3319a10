"""Images scaled whole to what a network takes."""

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


def near_square(sides: tuple[int, ...], side_px: int, multiple_px: int) -> tuple[int, int]:
    """Height and width near an image's shape and the area of a square of `side_px`, multiples of `multiple_px`."""
    scale = side_px / math.sqrt(math.prod(sides)) / multiple_px
    rows, columns = (max(1, round(side * scale)) * multiple_px for side in sides)
    return rows, columns


def resized(images: np.ndarray, size: tuple[int, int]) -> "Tensor":
    """(N, H, W, 3) uint8 to (N, 3, *size) float32 from 0 to 255, bicubic."""
    import torch

    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    return torch.nn.functional.interpolate(pixels, size, mode="bicubic", antialias=True).clamp(0, 255)
