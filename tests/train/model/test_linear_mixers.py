"""Mixers whose cost is linear in tokens, against what they are defined by."""

import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from train.model.dit_config import DiTConfig
from train.model.flops import num_pairs
from train.model.mixers.fused_scan import fused_scan
from train.model.mixers.mamba import short_convolution
from train.model.mixers.mamba_config import MambaConfig
from train.model.mixers.scan import selective_scan
from train.model.mixers.sliding import near_attention, num_near
from train.packing.batch import Sample, pack
from train.packing.segments import Segments, WindowLayout
from train.packing.shapes import Window

LENGTHS = (5, 1, 9, 13, 2)


def scan_inputs(seed: int = 0) -> list[Tensor]:
    """x (G, 3, 4), log_decay (G, 3), b and c (G, 5)."""
    generator = torch.Generator().manual_seed(seed)
    x, b, c = (torch.randn(sum(LENGTHS), *shape, generator=generator) for shape in ((3, 4), (5,), (5,)))
    return [v.requires_grad_() for v in (x, -torch.rand(sum(LENGTHS), 3, generator=generator), b, c)]


def one_by_one(x: Tensor, log_decay: Tensor, b: Tensor, c: Tensor, lengths: Sequence[int]) -> Tensor:
    outs, start = [], 0
    for length in lengths:
        state = torch.zeros(3, 5, 4)
        for i in range(start, start + length):
            state = log_decay[i].exp()[:, None, None] * state + b[i][None, :, None] * x[i][:, None, :]
            outs.append(torch.einsum("n,hnp->hp", c[i], state))
        start += length
    return torch.stack(outs)


@pytest.mark.parametrize(("chunk", "slab"), [(1, 1), (2, 6), (3, 1), (7, 14), (64, 1024)])
def test_chunks_and_slabs_of_any_size_give_the_recurrence(monkeypatch: pytest.MonkeyPatch, chunk: int, slab: int):
    monkeypatch.setattr("train.model.mixers.scan.SLAB", slab)
    inputs, ids = scan_inputs(), Segments.of(LENGTHS).segment_ids
    found, expected = selective_scan(*inputs, ids, chunk), one_by_one(*inputs, LENGTHS)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    towards = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    of_found, of_expected = (torch.autograd.grad((y * towards).sum(), inputs) for y in (found, expected))
    for ours, theirs in zip(of_found, of_expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=0)


def chunk_simple_gla(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None = None,
    g_gamma: Tensor | None = None,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    state_v_first: bool = False,
    cu_seqlens: Tensor | None = None,
    cu_seqlens_cpu: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, Tensor | None]:
    """The kernel of fla-core 0.6.0 by its documented recurrence."""
    assert g is not None and cu_seqlens is not None and cu_seqlens_cpu is not None
    assert len(q) == 1 and q.dtype == k.dtype == v.dtype and cu_seqlens.dtype == torch.int64
    assert torch.equal(cu_seqlens.cpu(), cu_seqlens_cpu)
    scale, outs = q.shape[-1] ** -0.5 if scale is None else scale, list[Tensor]()
    for i in range(q.shape[1]):
        if i in cu_seqlens.tolist():
            state = torch.zeros(q.shape[2], q.shape[3], v.shape[3])
        state = g[0, i, :, None, None].exp() * state + k[0, i, :, :, None] * v[0, i, :, None]
        outs.append(scale * torch.einsum("hn,hnp->hp", q[0, i], state))
    return torch.stack(outs)[None], None


def test_the_kernel_is_asked_for_what_the_chunks_compute(monkeypatch: pytest.MonkeyPatch):
    package = SimpleNamespace(chunk_simple_gla=chunk_simple_gla)
    monkeypatch.setitem(sys.modules, "fla.ops.simple_gla", package)
    inputs, segments = scan_inputs(), Segments.of(LENGTHS)
    found, expected = fused_scan(*inputs, segments), selective_scan(*inputs, segments.segment_ids, 4)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    of_found, of_expected = (torch.autograd.grad(y.square().sum(), inputs) for y in (found, expected))
    for ours, theirs in zip(of_found, of_expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_a_kernel_that_is_not_installed_is_told_before_the_first_step(monkeypatch: pytest.MonkeyPatch):
    mixer = MambaConfig(scan="fused")
    mixer.build(
        block=0, width=32, num_heads=2, qk_norm=True, qk_norm_eps=1e-6
    )  # without a GPU torch computes the scan
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ValueError, match=r"pip install 'reelpack\[fused\]', or set train\.model\.mixer\.scan=torch"):
        mixer.build(block=0, width=32, num_heads=2, qk_norm=True, qk_norm_eps=1e-6)


@pytest.mark.parametrize("slab", [4, 1024])
def test_a_segment_begins_with_an_empty_state(monkeypatch: pytest.MonkeyPatch, slab: int):
    """Also where a chunk holds several, and where decays are so strong that a factor alone would overflow."""
    monkeypatch.setattr("train.model.mixers.scan.SLAB", slab)
    inputs, ids = scan_inputs(), Segments.of(LENGTHS).segment_ids
    other = [v.detach().clone() for v in inputs]
    for v in other:
        v[ids == 2] *= -30.0 if v.min() < 0 else 30.0
    other[1] = -other[1].abs()
    found, changed = (selective_scan(*each, ids, 4)[ids != 2] for each in (inputs, other))
    assert torch.equal(found, changed)


def test_strong_decay_leaves_no_nan():
    x, log_decay, b, c = scan_inputs()
    found = selective_scan(x, log_decay * 1e4, b, c, Segments.of(LENGTHS).segment_ids, 8)
    found.sum().backward()
    assert found.isfinite().all()
    assert log_decay.grad is not None and log_decay.grad.isfinite().all()


def test_short_convolution_reaches_over_the_group_alone():
    tokens, weight = torch.randn(sum(LENGTHS), 3), torch.randn(4, 3)
    found = short_convolution(tokens, weight, WindowLayout(segments=Segments.of(LENGTHS)))
    expected = [
        F.conv1d(F.pad(part.T[None], (3, 0)), weight.T[:, None], groups=3)[0].T for part in tokens.split(LENGTHS)
    ]
    torch.testing.assert_close(found, torch.cat(expected), atol=1e-6, rtol=0)


@pytest.mark.parametrize("reach", [1, 3, 8, 100])
def test_near_attention_is_masked_attention(reach: int):
    segments = Segments.of(LENGTHS)
    q, k, v = (torch.randn(sum(LENGTHS), 2, 4) for _ in range(3))
    ids, place = segments.segment_ids, torch.arange(sum(LENGTHS))
    mask = (ids[:, None] == ids) & ((place[:, None] - place).abs() <= reach)
    per_head = (x.transpose(0, 1) for x in (q, k, v))
    expected = F.scaled_dot_product_attention(*per_head, attn_mask=mask).transpose(0, 1)
    torch.testing.assert_close(near_attention(q, k, v, segments, reach), expected, atol=1e-6, rtol=0)
    assert num_near(segments, reach) == mask.sum()


def test_pairs_of_a_wide_reach_are_all():
    segments = Segments.of(LENGTHS)
    assert num_near(segments, 100) == num_pairs(segments)


def blank(num_frames: int) -> Sample:
    """Of frames of 2 x 2 patches."""
    latent = torch.zeros(4, num_frames, 4, 4)
    return Sample(clip_id="", latent=latent, noise=latent, timestep=0.5, fps=8.0, text=None)


@pytest.mark.parametrize(
    ("order", "expected"),
    [("thw", [0, 1, 2, 3, 4, 5, 6, 7]), ("hwt", [0, 4, 1, 5, 2, 6, 3, 7]), ("wht", [0, 4, 2, 6, 1, 5, 3, 7])],
)
def test_windows_put_patches_in_the_order_of_a_scan(order: Any, expected: list[int]):
    for backward in (False, True):
        window = Window(size=(None, None, None), order=order, backward=backward)
        config = DiTConfig.model_validate({"mixer": {"kind": "mamba", "orders": [order]}, "position": "sincos"})
        batch = pack([blank(2)], (1, 2, 2), 8)
        layout = config.prepare(batch).layout
        assert layout is not None
        places = layout.groups[window].apply(torch.arange(8))
        assert places.tolist() == (expected[::-1] if backward else expected)


def test_in_context_tokens_are_read_first_both_ways():
    settings = {"mixer": {"kind": "mamba"}, "position": "sincos", "conditioning": "in_context", "text": "none"}
    config = DiTConfig.model_validate(settings | {"condition_on_fps": False})
    batch = pack([blank(1)] * 2, (1, 2, 2), 8)
    layout = config.prepare(batch).layout
    assert layout is not None
    for backward in (False, True):
        places = layout.groups[Window(size=(None, None, None), backward=backward)].apply(torch.arange(10))
        patches = [4, 3, 2, 1] if backward else [1, 2, 3, 4]
        assert places.tolist() == [0, *patches, 5, *(5 + n for n in patches)]


def test_sizes_that_do_not_fit_are_told():
    settings = {"position": "sincos", "width": 48, "num_heads": 3, "mixer": {"kind": "mamba", "expand": 1}}
    assert DiTConfig.model_validate(settings | {"num_heads": 4}).width == 48
    with pytest.raises(ValueError, match=r"multiple of twice the heads: an even train\.model\.mixer\.expand"):
        DiTConfig.model_validate(settings | {"width": 45})
    with pytest.raises(ValueError, match="set conditioning to adaln_zero"):
        DiTConfig.model_validate({"mixer": {"kind": "sliding_attention"}, "text": "in_context"})
    with pytest.raises(ValueError, match="samba needs two blocks or more, got depth 1"):
        DiTConfig.model_validate({"mixer": {"kind": "samba"}, "depth": 1})


def test_patches_too_far_for_the_blocks_are_told():
    settings = {"mixer": {"kind": "sliding_attention", "reach": 7, "orders": ["thw"]}, "depth": 3}
    config = DiTConfig.model_validate(settings)
    assert config.islands((1, 2, 11)) is None  # 22 patches: 3 blocks reach 21 of them
    told = config.islands((1, 1, 23))
    assert told == "a reach of 7 tokens in 3 blocks; set train.model.mixer.reach higher, or more blocks"
    along_time = DiTConfig.model_validate({"mixer": {"kind": "sliding_attention", "reach": 7}, "depth": 3})
    assert along_time.islands((4, 4, 4)) is None  # 64 patches: a block along time goes further
