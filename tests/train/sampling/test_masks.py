"""Masks of pixels: a patch with one white pixel, in any of its frames, is made new."""

import numpy as np
import pytest

from train.data.tasks.base import canvas_of
from train.sampling.masks import kept_patches

SIZE = (32, 48)


def kept(rgb: np.ndarray, latent_frames: int, patch_t: int = 1) -> np.ndarray:
    """Of a video of 4 frames to a latent frame, 8 pixels to a latent one, 2 x 2 of these to a patch."""
    patch = (patch_t, 2, 2)
    canvas = canvas_of((latent_frames, SIZE[0] // 8, SIZE[1] // 8), patch)
    return kept_patches(rgb, size=SIZE, canvas=canvas, patch=patch, stride=4, multiple_px=8)


def black(num_frames: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.zeros((num_frames, *size, 3), np.uint8)


def test_a_picture_holds_for_all_frames():
    rgb = black(1)
    rgb[0, 31, 16] = 255
    patches = kept(rgb, 3)
    assert patches.shape == (3, 2, 3)
    assert [tuple(place) for place in np.argwhere(~patches)] == [(t, 1, 1) for t in range(3)]


@pytest.mark.parametrize(("frame", "latent_frame"), [(0, 0), (1, 1), (4, 1), (5, 2), (8, 2)])
def test_a_white_frame_is_made_new_with_the_latent_frame_that_holds_it(frame: int, latent_frame: int):
    rgb = black(9)
    rgb[frame] = 255
    patches = kept(rgb, 3)
    assert [not frame.any() for frame in patches] == [t == latent_frame for t in range(3)]
    assert [bool(frame.all()) for frame in patches] == [t != latent_frame for t in range(3)]


@pytest.mark.parametrize(("latent_frames", "frame", "patch"), [(3, 0, 0), (3, 1, 1), (3, 8, 1), (4, 4, 0), (4, 5, 1)])
def test_a_patch_of_two_latent_frames_is_made_new_with_either(latent_frames: int, frame: int, patch: int):
    """Three latent frames are 1 + 2, four are 2 + 2."""
    rgb = black(1 + 4 * (latent_frames - 1))
    rgb[frame] = 255
    assert [not one.any() for one in kept(rgb, latent_frames, 2)] == [t == patch for t in range(2)]


def test_a_mask_of_another_size_is_scaled_and_cut_as_its_video_is():
    rgb = black(1, (64, 144))  # twice the size, and 24 px more on both sides
    rgb[0, :, :24] = rgb[0, :, -24:] = 255
    assert kept(rgb, 1).all(), "what is cut off counts for nothing"
    rgb[0, :, 24:26] = 255
    assert np.array_equal(kept(rgb, 1)[0], [[False, True, True]] * 2)


def test_what_is_darker_than_half_is_black():
    assert kept(black(1) + np.uint8(127), 1).all() and not kept(black(1) + np.uint8(128), 1).any()
