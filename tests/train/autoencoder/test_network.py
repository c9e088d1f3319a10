"""The network: strides, causality, chunks, weights."""

import pytest
import torch
from torch.nn import functional as F

from train.autoencoder import weights_folder
from train.autoencoder.causal_net import (
    CausalTemporalConv,
    Stream,
    depth_to_space_time,
    frame_conv,
    space_time_to_depth,
)
from train.autoencoder.network import CausalVideoAutoencoder
from train.autoencoder.network_config import NetworkConfig
from train.autoencoder.weights_folder import load, save

BOTTLENECKS = {
    "kl": {"kind": "kl"},
    "vq": {"kind": "vq", "codebook_size": 32},
    "fsq": {"kind": "fsq", "levels": (5, 5, 4, 3)},
}


@pytest.mark.parametrize(("frames", "height", "width"), [(1, 16, 24), (5, 8, 8), (17, 24, 16)])
def test_strides(tiny_model, frames, height, width) -> None:
    latent = tiny_model.latent(torch.randn(2, 3, frames, height, width))
    assert latent.shape == (2, 4, 1 + (frames - 1) // 4, height // 8, width // 8)
    assert tiny_model.decode(latent).shape == (2, 3, frames, height, width)


@pytest.mark.parametrize("first_changed", [1, 5, 9, 12])
def test_no_latent_depends_on_later_frames(tiny_model, first_changed) -> None:
    video = torch.randn(1, 3, 13, 16, 16)
    other = video.clone()
    other[:, :, first_changed:] = torch.randn_like(other[:, :, first_changed:])
    before, after = tiny_model.encode(video), tiny_model.encode(other)
    unchanged = 1 + (first_changed - 1) // 4  # latent frame j covers frames 4j - 3 ... 4j
    assert torch.equal(before[:, :, :unchanged], after[:, :, :unchanged])
    assert not torch.equal(before[:, :, unchanged], after[:, :, unchanged])


@pytest.mark.parametrize("first_changed", [1, 2, 3])
def test_no_frame_depends_on_later_latents(tiny_model, first_changed) -> None:
    latent = torch.randn(1, 4, 4, 2, 2)
    other = latent.clone()
    other[:, :, first_changed:] = torch.randn_like(other[:, :, first_changed:])
    before, after = tiny_model.decode(latent), tiny_model.decode(other)
    unchanged = 1 + 4 * (first_changed - 1)
    assert torch.equal(before[:, :, :unchanged], after[:, :, :unchanged])
    assert not torch.equal(before[:, :, unchanged], after[:, :, unchanged])


def test_an_image_is_the_first_frame_of_a_video(tiny_model) -> None:
    video = torch.randn(1, 3, 9, 16, 24)
    mean = tiny_model.latent(video)
    image = tiny_model.latent(video[:, :, :1])
    torch.testing.assert_close(mean[:, :, :1], image, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(tiny_model.decode(mean)[:, :, :1], tiny_model.decode(image), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("chunk", [1, 2, 3, 7])
def test_chunks_equal_the_whole(tiny_model, chunk) -> None:
    video = torch.randn(1, 3, 25, 16, 16).double()
    model = tiny_model.double()  # rounding aside, they are the same sums
    torch.testing.assert_close(model.encode(video, chunk=chunk), model.encode(video), rtol=1e-6, atol=1e-6)
    latent = torch.randn(1, 4, 7, 2, 2).double()
    torch.testing.assert_close(model.decode(latent, chunk=chunk), model.decode(latent), rtol=1e-5, atol=1e-5)


def test_time_takes_part(tiny_model) -> None:
    """A clip is not coded as unrelated frames: swapping two frames of a group changes its latent."""
    video = torch.randn(1, 3, 5, 16, 16)
    swapped = video[:, :, [0, 2, 1, 3, 4]]
    assert not torch.allclose(tiny_model.encode(video), tiny_model.encode(swapped))


@pytest.mark.parametrize(("frames", "pixels"), [(1, 4), (2, 2), (2, 1)])
def test_depth_to_space_time_inverts(frames, pixels) -> None:
    x = torch.randn(2, 5, 4, 8, 12)
    folded = space_time_to_depth(x, frames=frames, pixels=pixels)
    assert folded.shape == (2, 5 * frames * pixels**2, 4 // frames, 8 // pixels, 12 // pixels)
    assert torch.equal(depth_to_space_time(folded, frames=frames, pixels=pixels), x)


@pytest.mark.parametrize("shape", [(1, 3, 4, 16, 16), (1, 3, 5, 12, 16), (1, 1, 5, 16, 16), (3, 5, 16, 16)])
def test_a_shape_that_does_not_fit_is_refused(tiny_model, shape) -> None:
    with pytest.raises(ValueError, match=r"T = 1 \+ 4k"):
        tiny_model.encode(torch.zeros(shape))


def test_saved_weights_load_as_they_were(tiny_model, tmp_path) -> None:
    save(tiny_model, tmp_path)
    loaded, digest = load(tmp_path)
    assert loaded.config == tiny_model.config
    video = torch.randn(1, 3, 5, 16, 16)
    half = tiny_model.half().float()  # what is kept
    assert torch.equal(loaded.encode(video), half.encode(video))
    assert load(tmp_path)[1] == digest

    with torch.no_grad():
        tiny_model.decoder.head.bias[0] += 0.1
    save(tiny_model, tmp_path)
    assert load(tmp_path)[1] != digest


def test_a_folder_without_weights_is_named(tmp_path) -> None:
    with pytest.raises(ValueError, match=str(tmp_path)):
        load(tmp_path)


@pytest.mark.parametrize("kind", BOTTLENECKS)
def test_gradients_reach_every_parameter(kind: str) -> None:
    model = small(bottleneck=BOTTLENECKS[kind])
    video = torch.randn(1, 3, 9, 16, 16)
    out, coded = model(video, torch.Generator())
    ((out - video).square().mean() + coded.loss).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


@pytest.mark.parametrize("strides", [(4, 1), (8, 1), (8, 4), (16, 4), (32, 4), (8, 8), (4, 4)])
def test_every_stride_is_causal_and_has_an_image_as_the_first_frame(strides: tuple[int, int]) -> None:
    in_space, in_time = strides
    model = small(spatial_stride=in_space, temporal_stride=in_time)
    side = 2 * in_space
    video = torch.randn(1, 3, 1 + 2 * in_time, side, side)
    latent = model.latent(video)
    assert latent.shape == (1, 4, 3, 2, 2)
    assert model.decode(latent).shape == video.shape
    torch.testing.assert_close(latent[:, :, :1], model.latent(video[:, :, :1]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.latent(video, chunk=1), latent, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.decode(latent, chunk=1), model.decode(latent), rtol=1e-4, atol=1e-4)
    other = video.clone()
    other[:, :, 1 + in_time :] = 0
    assert torch.equal(model.latent(other)[:, :, :2], latent[:, :, :2])


def test_levels_that_the_strides_do_not_have_are_refused() -> None:
    with pytest.raises(ValueError, match="have 3 levels, so 3 numbers are expected"):
        NetworkConfig(spatial_stride=16, temporal_stride=4, widths=(8, 8))


def small(**settings: object) -> CausalVideoAutoencoder:
    """Random weights, none at zero."""
    torch.manual_seed(0)
    config = NetworkConfig.model_validate({"latent_channels": 4, **settings})
    model = CausalVideoAutoencoder(config.model_copy(update={"widths": (8,) * config.num_levels}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.2)
    return model


@pytest.mark.parametrize("damage", ["another network", "cut", "text"])
def test_weights_that_are_not_of_their_configuration_are_refused(tiny_config, tmp_path, damage) -> None:
    save(CausalVideoAutoencoder(tiny_config), tmp_path)
    weights, config = tmp_path / weights_folder.WEIGHTS_FILE, tmp_path / weights_folder.CONFIG_FILE
    if damage == "another network":
        other = tiny_config.model_copy(update={"latent_channels": 7})
        config.write_text(other.model_dump_json())
    elif damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-5])
    else:
        config.write_text("{")
    with pytest.raises(ValueError, match="do not belong together or are damaged") as error:
        load(tmp_path)
    assert len(str(error.value)) < 1200


@pytest.mark.parametrize("kernel", [1, 3])
def test_layers_are_the_three_dimensional_convolutions_that_they_stand_for(kernel: int) -> None:
    x = torch.randn(2, 6, 5, 8, 12).to(memory_format=torch.channels_last_3d)
    frames, temporal = frame_conv(6, 4, kernel), CausalTemporalConv(6, 4)
    torch.nn.init.normal_(temporal.conv.weight)
    expected = F.conv3d(x, frames.weight, frames.bias, padding=(0, kernel // 2, kernel // 2))
    torch.testing.assert_close(frames(x), expected, rtol=1e-5, atol=1e-5)
    before = torch.cat([x[:, :, :1], x[:, :, :1], x], dim=2)
    expected = F.conv3d(before, temporal.conv.weight, temporal.conv.bias)
    torch.testing.assert_close(temporal(x, Stream()), expected, rtol=1e-5, atol=1e-5)
    assert frames(x).is_contiguous(memory_format=torch.channels_last_3d)  # no layer copies what the next one reads
