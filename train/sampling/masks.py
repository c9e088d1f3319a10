"""Masks of pixels as masks of patches."""

import numpy as np

from curate.media.decode import Size
from train.autoencoder.pixels import covering_size, middle
from train.data.tasks.base import Canvas
from train.packing.shapes import Patch

WHITE = 128
"""The least value of a pixel that is made new."""


def kept_patches(
    rgb: np.ndarray, *, size: Size, canvas: Canvas, patch: Patch, stride: int, multiple_px: int
) -> np.ndarray:
    """(t, h, w) bool: patches without a white pixel.

    Args:
        rgb: (1, H, W, 3) for all frames, or (T, H, W, 3), uint8.
        size: height and width of the video that is generated, px, to which it is cut as a video is.
        canvas: of its latent.
        patch: of the model.
        stride: frames of a latent frame; the first is alone.
        multiple_px: see `covering_size`.
    """
    import cv2

    to = covering_size(*rgb.shape[1:3], size=size, multiple_px=multiple_px)
    scaled = [cv2.resize(frame.max(-1), to[::-1], interpolation=cv2.INTER_NEAREST) for frame in rgb]
    white: np.ndarray = np.stack([middle(frame, size) for frame in scaled]) >= WHITE  # (T or 1, H, W)
    t, h, w = canvas.grid
    new = np.asarray(white.reshape(len(white), h, size[0] // h, w, size[1] // w).any(axis=(2, 4)))  # (T or 1, h, w)
    if len(new) == 1:
        return np.broadcast_to(~new, canvas.grid)
    latent = np.concatenate([new[:1], new[1:].reshape(-1, stride, h, w).any(axis=1)])  # (latent frames, h, w)
    first = np.repeat(latent[:1], t * patch[0] - len(latent), axis=0)  # what fills the first patch
    filled = np.asarray(np.concatenate([first, latent]).reshape(t, patch[0], h, w).any(axis=1))
    return ~filled
