"""FLOPs from the segments are those that torch counts while it runs."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.train.model.conftest import packed
from tests.train.model.test_packed_equals_alone import CONDITIONINGS, PATTERNS, VARIANTS, WALTS, settings_of
from train.estimate.peak_flops import peak_flops, peak_of
from train.model.dit import DiT
from train.packing.batch import Sample


@pytest.mark.parametrize(
    "settings",
    [settings_of(p, c) for p in PATTERNS for c in CONDITIONINGS] + VARIANTS + WALTS,
    ids=lambda s: "-".join(str(s[key]) for key in ("pattern", "conditioning")),
)
def test_counted_flops_are_those_of_the_flop_counter(
    redrawn: Callable[..., DiT], mixed_samples: list[Sample], settings: dict[str, Any]
):
    model = redrawn(**settings)
    batch = packed(model, mixed_samples)
    # torch counts no fused attention on CPU; the plain one is two batched products.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        model(batch.tokens, batch.timesteps, batch)
    assert model.flops(batch) == counter.get_total_flops() > 0
    assert model.flops(model.config.prepare(batch)) == model.flops(batch)


def test_a_device_that_is_not_known_has_no_peak():
    assert peak_flops(torch.device("cpu"), torch.bfloat16) is None


@pytest.mark.parametrize(
    "name, peak",
    [
        ("NVIDIA A10", 125),
        ("NVIDIA A10G", 70),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA GH200 480GB", 989),
        ("NVIDIA L40S", 362),
        ("NVIDIA RTX A1000", None),
    ],
)
def test_a_device_is_known_by_the_words_of_its_name(name: str, peak: int | None):
    assert peak_of(name) == (None if peak is None else peak * 1e12)
