"""Layers along time: against a convolution and attention written out, apart from images, and silent at first."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch.nn import functional as F

from tests.support.models import dit_config
from tests.train.model.conftest import output, packed
from tests.train.model.test_packed_equals_alone import EVERYTHING, check_packed_equals_alone
from train.model.build_layout import build_layout
from train.model.dit import DiT
from train.model.dit_config import Conditioning, Position
from train.model.temporal import TemporalConvolution, Time
from train.packing.batch import Sample

VIDEO = {"pattern": "spatial", "temporal": "both", "reference_fps": 16.0}
CASES = [{"conditioning": name, "text": "in_context"} for name in get_args(Conditioning)]
CASES += [{"position": name} for name in get_args(Position)]
CASES += [{"adaln": "lora", "temporal": "attention"}, {"adaln": "shared", "temporal": "convolution"}]
CASES += [{"pattern": "joint", "patch": (2, 2, 2)}, {"mixer": {"kind": "pooling"}, "position": "sincos"}]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case.values())))
def test_packed_outputs_loss_and_gradients_equal_one_by_one(
    redrawn: Callable[..., DiT], mixed_samples: list[Sample], samples: list[Sample], case: dict[str, Any]
):
    conditions = {} if "patch" in case else EVERYTHING
    check_packed_equals_alone(redrawn(**VIDEO | conditions | case), samples if "patch" in case else mixed_samples)


def test_a_convolution_is_that_of_torch_at_each_place_and_skips_what_is_dropped(samples: list[Sample]):
    """Of a video of which all patches are there; a dropped patch is zero to its neighbors."""
    torch.manual_seed(0)
    config = dit_config(width=32, num_heads=2, depth=1, **VIDEO)
    layer = TemporalConvolution(32)
    kept = torch.tensor([0, 2, 3, 5, 6, 8, 11])
    whole, part = replace(samples[0], kept=None), replace(samples[0], kept=kept)  # 3 × 2 × 3 patches
    model = DiT(config, channels=4, text_dim=12)
    batch = packed(model, [samples[1], whole, part])
    layout = build_layout(batch, config)
    assert layout.time is not None
    _, all_there, some_there = batch.segments.lengths
    x = torch.randn(batch.segments.num_tokens, 32, requires_grad=True)
    out = layer.over_time(x, Time.of(layout.time, None)).split(batch.segments.lengths)
    weight = layer.taps.weight.unflatten(0, (3, 32)).permute(1, 2, 0)  # (D, D, 3)
    rows = x.split(batch.segments.lengths)
    filled = rows[2].new_zeros(all_there, 32).index_copy(0, kept, rows[2])
    for video, found, at in ((rows[1], out[1], slice(None)), (filled, out[2], kept)):
        series = video.unflatten(0, (3, 6)).permute(1, 2, 0)  # (places, D, T)
        expected = F.conv1d(series, weight, padding=1).permute(2, 0, 1).flatten(0, 1)
        torch.testing.assert_close(found, expected[at])
        for one, other in zip(*(torch.autograd.grad(y.square().sum(), (x, layer.taps.weight), retain_graph=True)
                                for y in (found, expected[at])), strict=True):  # fmt: skip
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    assert some_there == len(kept)


@pytest.mark.parametrize("position", get_args(Position))
def test_frames_meet_in_layers_along_time_alone_and_these_know_their_order(
    redrawn: Callable[..., DiT], samples: list[Sample], position: str
):
    video = samples[0]  # 3 frames
    turned = replace(video, latent=video.latent.flip(1), noise=video.noise.flip(1))
    for temporal, sees in (("attention", True), ("convolution", True)):
        model = redrawn(**VIDEO | {"temporal": temporal, "position": position})
        with torch.no_grad():
            forth, back = (output(model, [one])[0].unflatten(0, (3, -1)) for one in (video, turned))
            for block in model.blocks:
                block.temporal[temporal].mixer.last.weight.zero_()
                if temporal == "attention":
                    block.temporal[temporal].mixer.last.bias.zero_()
            apart, turned_apart = (output(model, [one])[0].unflatten(0, (3, -1)) for one in (video, turned))
        assert (not torch.allclose(forth, back.flip(0), atol=1e-3)) == sees
        torch.testing.assert_close(apart, turned_apart.flip(0))


@pytest.mark.parametrize("temporal", ["attention", "convolution", "both"])
def test_an_image_is_what_the_model_without_them_makes_of_it_whatever_they_have_learned(
    redrawn: Callable[..., DiT], samples: list[Sample], temporal: str
):
    of_videos = redrawn(**VIDEO | {"temporal": temporal})
    for pattern, atol in (("spatial", 0.0), ("joint", 1e-5)):
        of_images = redrawn(pattern=pattern, reference_fps=16.0)
        with torch.no_grad():
            for name, parameter in of_images.named_parameters():
                parameter.copy_(of_videos.get_parameter(name))
            found = zip(samples, output(of_videos, samples), output(of_images, samples), strict=True)
            for sample, one, other in found:
                if sample.latent.shape[1] == 1:
                    torch.testing.assert_close(one, other, atol=atol, rtol=0)


@pytest.mark.parametrize(
    ("settings", "grid", "told"),
    [
        ({"temporal": "attention"}, (30, 4, 4), None),
        ({"temporal": "both"}, (30, 4, 4), None),
        ({"temporal": "none"}, (1, 4, 4), None),
        ({"temporal": "none"}, (2, 4, 4), "temporal=none in 3 blocks.*set it to attention"),
        ({"temporal": "convolution"}, (4, 4, 4), None),
        ({"temporal": "convolution"}, (5, 4, 4), "temporal=convolution in 3 blocks"),
    ],
)
def test_clips_that_are_cut_into_parts_are_told(settings: dict, grid: tuple[int, int, int], told: str | None):
    found = dit_config(width=32, num_heads=2, depth=3, pattern="spatial", **settings).islands(grid)
    assert (found is None) == (told is None)
    assert told is None or re.search(told, str(found))


def test_learned_positions_need_not_reach_frames_that_have_their_own(samples: list[Sample]):
    shape = {"width": 32, "num_heads": 2, "depth": 1, "position": "absolute", "max_grid": (1, 8, 8)}
    model = DiT(dit_config(**shape, **VIDEO), channels=4, text_dim=12)
    assert output(model, samples)
    with pytest.raises(ValueError, match="the learned positions end at"):
        output(DiT(dit_config(**shape), channels=4, text_dim=12), samples)


def test_a_head_that_has_no_pairs_is_refused():
    settings = {"width": 20, "num_heads": 4, "position": "sincos"}
    with pytest.raises(ValueError, match=r"temporal both rotates pairs .* got head width 5 \(width 20 of 4 heads\)"):
        dit_config(**settings, temporal="both")
    assert dit_config(**settings, temporal="convolution").temporal_layers == ("convolution",)


def test_ranks_cannot_share_the_frames_of_a_sample():
    with pytest.raises(ValueError, match=r"parallel\.context is 2, and train\.model\.temporal=both needs the frames"):
        dit_config(width=32, num_heads=2, **VIDEO).check_context(2)
    dit_config(width=32, num_heads=2).check_context(2)
