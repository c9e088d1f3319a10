import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from train.model.attention import _block_mask, _build_block_mask, attention
from train.packing.segments import Segments

HEADS, WIDTH = 2, 8
lengths = st.lists(st.tuples(st.integers(1, 7), st.integers(1, 5)), min_size=1, max_size=6)


def naive(q, k, v, segments_q, segments_k):
    """Softmax written out, one query at a time."""
    outputs = []
    for token, segment in enumerate(segments_q.segment_ids.tolist()):
        keys, values = k[segments_k.segment_ids == segment], v[segments_k.segment_ids == segment]
        weights = torch.einsum("hd,mhd->hm", q[token], keys).mul(WIDTH**-0.5).softmax(-1)
        outputs.append(torch.einsum("hm,mhd->hd", weights, values))
    return torch.stack(outputs)


def inputs(pairs):
    segments = [Segments.of(list(part)) for part in zip(*pairs, strict=True)]
    q, k, v = (torch.randn(segments[i].num_tokens, HEADS, WIDTH, requires_grad=True) for i in (0, 1, 1))
    return q, k, v, *segments


@pytest.mark.parametrize("backend", ["segments", "dense"])
@settings(max_examples=25)
@given(pairs=lengths)
def test_every_backend_equals_the_written_out_softmax_and_its_gradients(backend, pairs):
    q, k, v, segments_q, segments_k = inputs(pairs)
    upstream = torch.randn_like(q)
    results = []
    for out in (attention(q, k, v, segments_q, segments_k, backend), naive(q, k, v, segments_q, segments_k)):
        results.append((out, *torch.autograd.grad(out, (q, k, v), upstream)))
    for ours, reference in zip(*results, strict=True):
        torch.testing.assert_close(ours, reference, atol=1e-5, rtol=1e-5)


@settings(max_examples=10, deadline=None)
@given(pairs=st.lists(st.tuples(st.integers(1, 300), st.integers(1, 200)), min_size=1, max_size=5))
def test_block_masks_are_those_that_the_library_works_out_pair_by_pair(pairs):
    *_, segments_q, segments_k = inputs(pairs)
    ours = _build_block_mask(segments_q, segments_k)
    theirs = create_block_mask(ours.mask_mod, None, None, *ours.seq_lengths, device="cpu")
    assert torch.equal(ours.to_dense(), theirs.to_dense())
    assert _block_mask(segments_q, segments_k) is _block_mask(segments_q, segments_k)


@pytest.mark.filterwarnings("ignore:flex_attention called without")
def test_flex_attention_without_compilation_equals_the_dense_mask(monkeypatch):
    """Forward only: there is no backward on a CPU."""
    monkeypatch.setattr("train.model.attention._flex_kernel", lambda: flex_attention)
    q, k, v, *segments = inputs([(300, 7), (1, 1), (64, 180), (129, 3)])
    q, k, v = (x.detach() for x in (q, k, v))
    ours, reference = (attention(q, k, v, *segments, backend) for backend in ("flex", "dense"))
    torch.testing.assert_close(ours, reference, atol=1e-5, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("backend", ["varlen", "flex"])
def test_kernels_equal_the_dense_mask(backend):
    q, k, v, segments_q, segments_k = inputs([(300, 7), (1, 1), (64, 80), (129, 3)])
    q, k, v = (
        torch.randn(x.shape[0], HEADS, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True) for x in (q, k, v)
    )
    segments_q, segments_k = segments_q.to("cuda"), segments_k.to("cuda")
    upstream = torch.randn_like(q)
    ours, reference = (attention(q, k, v, segments_q, segments_k, backend) for backend in (backend, "dense"))
    torch.testing.assert_close(ours, reference, atol=2e-2, rtol=2e-2)
    for a, b in zip(*(torch.autograd.grad(out, (q, k, v), upstream) for out in (ours, reference)), strict=True):
        assert torch.nn.functional.cosine_similarity(a.float().flatten(), b.float().flatten(), dim=0) > 0.999
