"""Weights that a network begins with: layers at the latents are taken where they fit, all others always."""

from typing import Any

import pytest
import torch

from train.autoencoder.network import CausalVideoAutoencoder
from train.autoencoder.network_config import NetworkConfig
from train.autoencoder.training.own_network import OwnNetwork

VQ = {"kind": "vq", "codebook_size": 16}


def network(kind: type[CausalVideoAutoencoder], **settings: Any) -> Any:
    made = kind(NetworkConfig.model_validate({"widths": [8, 12, 16], "latent_channels": 4, **settings}))
    for value in made.state_dict().values():
        value.copy_(torch.rand_like(value, dtype=torch.float32))
    return made


@pytest.mark.parametrize(
    ("theirs", "ours", "new"),
    [
        ({}, {"bottleneck": {"kind": "kl", "weight": 0.1}}, []),
        ({"bottleneck": VQ}, {"bottleneck": {**VQ, "commitment": 1.0, "decay": 0.5}}, []),
        ({}, {"latent_channels": 6}, ["encoder.head", "decoder.stem"]),
        ({}, {"bottleneck": VQ}, ["encoder.head", "bottleneck"]),
        ({}, {"latent_channels": 8, "bottleneck": VQ}, ["encoder.head", "bottleneck", "decoder.stem"]),
        ({"bottleneck": VQ}, {"bottleneck": {**VQ, "codebook_size": 32}}, ["bottleneck"]),
        ({"bottleneck": VQ}, {}, ["encoder.head"]),
        ({"bottleneck": VQ}, {"bottleneck": {"kind": "fsq", "levels": [5, 5, 5]}}, ["encoder.head", "decoder.stem"]),
    ],
)
def test_layers_at_the_latents_that_do_not_fit_stay(
    theirs: dict[str, Any], ours: dict[str, Any], new: list[str]
) -> None:
    begun, model = network(CausalVideoAutoencoder, **theirs), network(OwnNetwork, **ours)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert model.begin_with(begun) == new
    for name, value in model.state_dict().items():
        source = before if name.startswith(tuple(new)) else begun.state_dict()
        assert torch.equal(value, source[name]), name


@pytest.mark.parametrize(
    "other",
    [
        {"widths": [8, 12, 24]},
        {"encoder_blocks": [1, 2, 1]},
        {"decoder_blocks": [3, 2, 2]},
        {"spatial_stride": 16, "widths": [8, 12, 16]},
    ],
)
def test_other_layers_between_are_refused(other: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"its network has .*; set them as there"):
        network(OwnNetwork).begin_with(network(CausalVideoAutoencoder, **other))


def test_a_deeper_network_begins_with_what_a_trained_one_computes() -> None:
    begun = network(CausalVideoAutoencoder, encoder_blocks=[1, 1, 2]).eval()
    blocks = {"encoder_blocks": [2, 1, 3], "decoder_blocks": [3, 2, 4]}
    model = OwnNetwork(begun.config.model_copy(update={name: tuple(value) for name, value in blocks.items()})).eval()
    video = torch.rand(1, 3, 5, 16, 24) * 2 - 1
    with torch.no_grad():
        before = model.latent(video)
        assert model.begin_with(begun) == []
        latent = begun.latent(video)
        assert not torch.allclose(before, latent)
        assert torch.equal(model.latent(video), latent)
        assert torch.equal(model.decode(latent), begun.decode(latent))
