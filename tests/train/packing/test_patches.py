import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from train.packing.patches import fitting_size, grid_index, grid_positions, grid_size, patchify, unpatchify

sides = st.integers(1, 4)


@given(st.tuples(sides, sides, sides), st.tuples(sides, sides, sides), st.integers(1, 3))
def test_unpatchify_inverts_patchify(grid, patch, channels):
    shape = [n * p for n, p in zip(grid, patch, strict=True)]
    latent = torch.randn(channels, *shape)
    tokens = patchify(latent, patch)
    assert tokens.shape == (grid[0] * grid[1] * grid[2], channels * patch[0] * patch[1] * patch[2])
    assert torch.equal(unpatchify(tokens, grid, patch), latent)


def test_a_linear_layer_on_patches_is_the_strided_convolution_with_the_same_weights():
    patch = (2, 2, 3)
    conv = torch.nn.Conv3d(4, 7, patch, stride=patch)
    latent = torch.randn(4, 4, 6, 6)
    by_convolution = conv(latent[None])[0].flatten(1).T  # tokens run t, h, w
    by_linear = torch.nn.functional.linear(patchify(latent, patch), conv.weight.flatten(1), conv.bias)
    torch.testing.assert_close(by_linear, by_convolution, atol=1e-5, rtol=0)


def test_a_lone_frame_comes_back_as_the_mean_of_its_copies():
    latent = torch.randn(3, 5, 4, 4)  # 1 + 2 · 2 frames
    tokens = patchify(latent, (2, 2, 2))
    assert torch.equal(unpatchify(tokens, (3, 2, 2), (2, 2, 2), 5), latent)
    copies = tokens[:4].unflatten(1, (3, 2, 4))
    copies[:, :, 1] += 1.0
    back = unpatchify(tokens, (3, 2, 2), (2, 2, 2), 5)
    torch.testing.assert_close(back[:, 0], latent[:, 0] + 0.5)
    assert torch.equal(back[:, 1:], latent[:, 1:])


def test_positions_name_the_patch_that_a_token_was_cut_from():
    grid = (2, 3, 4)
    latent = torch.zeros(3, *grid)
    latent[0], latent[1], latent[2] = torch.meshgrid(*(torch.arange(n) for n in grid), indexing="ij")
    assert torch.equal(patchify(latent, (1, 1, 1)).long(), grid_positions(grid))


def test_a_latent_that_the_patch_does_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"\(1, 5, 4\).*\(1, 2, 2\)"):
        patchify(torch.zeros(3, 1, 5, 4), (1, 2, 2))


@given(st.integers(1, 9), st.integers(1, 4))
def test_a_first_frame_that_is_left_over_fills_a_tubelet_of_its_own(num_frames, pt):
    frames, _, _ = fitting_size((num_frames, 4, 4), (pt, 2, 2))
    assert num_frames - pt < frames <= num_frames and frames % pt in (0, 1 % pt)
    latent = torch.randn(3, frames, 4, 4)
    tokens, grid = patchify(latent, (pt, 2, 2)), grid_size(latent.shape, (pt, 2, 2))
    assert torch.equal(grid_index(grid_positions(grid), grid), torch.arange(len(tokens)))
    torch.testing.assert_close(unpatchify(tokens, grid, (pt, 2, 2), frames), latent)
    if frames % pt == 1:
        first = tokens[:4].unflatten(1, (3, pt, 4))
        assert (first == first[:, :, :1]).all()


def test_an_image_is_the_first_frame_of_a_video():
    video = torch.randn(3, 5, 4, 4)
    assert torch.equal(patchify(video[:, :1], (2, 2, 2)), patchify(video, (2, 2, 2))[:4])
