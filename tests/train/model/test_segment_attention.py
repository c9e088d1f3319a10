"""The parts of a pack and what computes them; what a GPU computes, as far as a CPU can tell."""

import pytest
import torch
from torch.distributed.fsdp import _common_utils as sharding

from train.model import segment_attention as op
from train.model.attention import attention
from train.model.segment_attention import Run, batches_of, kernel_of, parts_of, runs_of
from train.packing.segments import Segments, WindowLayout

HEADS, WIDTH = 2, 8


def ends(*lengths: int) -> torch.Tensor:
    return Segments.of(lengths).host.ends


@pytest.mark.parametrize(
    "run, expected",
    [
        (Run(g=16_384, n=1, m=1), "value"),
        (Run(g=3072, n=5, m=5), "products"),
        (Run(g=70_000, n=2, m=2), "products"),
        (Run(g=64, n=256, m=1), "value"),
        (Run(g=64, n=256, m=256), "flash"),
        (Run(g=2, n=5, m=5), "flash"),  # with its neighbours
        (Run(g=2, n=256, m=1), "flash"),
    ],
)
def test_on_a_gpu_many_short_segments_are_batched_and_single_tokens_pass(run: Run, expected: str):
    assert kernel_of(run, cuda=True, flash=True) == expected
    assert kernel_of(run, cuda=False, flash=True) == ("value" if run.m == 1 else "flash")
    assert kernel_of(run, cuda=True, flash=False) == ("value" if run.m == 1 else "products")


def test_parts_cover_the_pack_in_order_and_long_runs_share_a_call():
    lengths = [1] * 5 + [3] * 4 + [7, 7, 9, 300, 300, 500] + [2] * 6
    parts = list(parts_of(ends(*lengths), ends(*lengths), cuda=True, flash=True))
    assert [part.kernel for part in parts] == ["value", "products", "flash", "products"]
    assert [(part.q.start, part.q.stop) for part in parts] == [(0, 5), (5, 17), (17, 1140), (1140, 1152)]
    assert [(part.ends.start, part.ends.stop) for part in parts] == [(0, 6), (5, 10), (9, 16), (15, 22)]
    assert len(parts[2].runs) == 4
    with pytest.raises(ValueError, match="2 segments of queries and 1 of keys"):
        runs_of(ends(1, 2), ends(3))


@pytest.mark.parametrize("limits", [{}, {"MAX_BATCH": 5, "MAX_SCORES": 60}])
@pytest.mark.parametrize("run", [Run(g=6, n=5, m=5), Run(g=3, n=4, m=7), Run(g=4, n=3, m=1)])
def test_products_are_the_attention_of_the_flash_kernel_in_batches_of_bounded_size(
    run: Run, limits: dict[str, int], monkeypatch: pytest.MonkeyPatch
):
    for name, value in limits.items():
        monkeypatch.setattr(op, name, value)
    sizes = [(len(range(*at.indices(run.g))), len(range(*i.indices(run.n)))) for at, i in batches_of(run, HEADS)]
    assert all(g * HEADS <= op.MAX_BATCH and g * HEADS * n * run.m <= op.MAX_SCORES for g, n in sizes)
    assert sum(g * n for g, n in sizes) == run.g * run.n
    torch.manual_seed(0)
    q, k, v = (torch.randn(run.g * size, HEADS, WIDTH) for size in (run.n, run.m, run.m))
    grad = torch.randn_like(q)
    ours, reference = op._products(q, k, v, run), op._flash_cpu(q, k, v, run)
    for one, other in zip(ours, reference, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    backward = [
        function(grad, q, k, v, *found, run)
        for function, found in ((op._products_backward, ours), (op._flash_cpu_backward, reference))
    ]
    for one, other in zip(*backward, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("lengths", [[1] * 16_384, [5] * 3072, [65] * 252, [256] * 64, [16_384]])
def test_no_cut_of_a_pack_takes_more_than_the_estimate_says(lengths: list[int]):
    """Of DiT-XL's attention; the flash kernel for every segment would take 12 GiB for 16,384 single tokens."""
    most = op.workspace_bytes(sum(lengths), 16, 72, flash=True)
    for part in parts_of(ends(*lengths), ends(*lengths), cuda=True, flash=True):
        rows = sum(run.g * (run.n + 128) for run in part.runs)
        taken = {"value": 0, "flash": 4 * rows * 16 * 96, "products": 3 * 4 * op.MAX_SCORES}[part.kernel]
        assert taken <= most
    assert most < 2**29


def test_tokens_alone_have_their_values_and_no_gradient_in_queries():
    segments = Segments.of([1] * 6)
    q, k, v = (torch.randn(6, HEADS, WIDTH, requires_grad=True) for _ in range(3))
    out = attention(q, k, v, segments, segments)
    assert torch.equal(out, v)
    dq, dk, dv = torch.autograd.grad(out, (q, k, v), upstream := torch.randn_like(out))
    assert torch.equal(dv, upstream) and not dq.any() and not dk.any()


def test_rows_beyond_the_segments_are_seen_by_nobody():
    segments_q, segments_k = Segments.of([3, 2]), Segments.of([2, 1])
    q, k, v = (torch.randn(n, HEADS, WIDTH, requires_grad=True) for n in (5, 4, 4))
    out = attention(q, k, v, segments_q, segments_k)
    torch.testing.assert_close(out, attention(q, k[:3], v[:3], segments_q, segments_k))
    grads = torch.autograd.grad(out.sum(), (k, v))
    assert all(not grad[3].any() and grad[:3].any() for grad in grads)


def test_what_shards_a_block_finds_no_list_of_lengths_in_its_inputs(monkeypatch: pytest.MonkeyPatch):
    """FSDP2 walks the dataclasses, lists and tuples among a block's inputs, item by item."""
    visited: list[object] = []
    walk = sharding._collect_grad_tensors

    def recorded(*arguments: object) -> None:
        visited.append(arguments[0])
        walk(*arguments)

    monkeypatch.setattr(sharding, "_collect_grad_tensors", recorded)
    sharding.collect_grad_tensors([WindowLayout(segments=Segments.of([1] * 1000))])
    assert any(isinstance(one, Segments) for one in visited) and len(visited) < 15


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("lengths", [[1] * 70_000, [3] * 66_000, [5] * 3072 + [300, 200], [40, 1, 1, 300, 7]])
def test_short_segments_on_a_gpu_equal_those_of_a_cpu_and_take_little_memory(lengths: list[int]):
    here = Segments.of(lengths)
    there = here.to("cuda")
    q, k, v, grad = (torch.randn(here.num_tokens, HEADS, 64).bfloat16() for _ in range(4))
    results = []
    for segments, device in ((here, "cpu"), (there, "cuda")):
        inputs = [x.to(device).requires_grad_() for x in (q, k, v)]
        out = attention(*inputs, segments, segments)
        results.append([x.float().cpu() for x in (out, *torch.autograd.grad(out, inputs, grad.to(device)))])
    for ours, reference in zip(*results, strict=True):
        torch.testing.assert_close(ours, reference, atol=5e-2, rtol=5e-2)
    assert torch.cuda.max_memory_allocated() < 2**30
