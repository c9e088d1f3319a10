"""Compiled blocks are one graph each, and none more after the first step, whatever packs come."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch._dynamo.backends.registry import lookup_backend
from torch.fx.experimental import _config as shapes
from torch.nn.parallel import DistributedDataParallel

from tests.support.forks import start_both
from tests.support.latents import CHANNELS, TEXT_DIM
from tests.support.models import dit_config
from train.distributed import parallelize as parallel
from train.distributed.parallelize import ParallelConfig, parallelize, reshard
from train.distributed.ranks import RankGrid
from train.model.build_layout import prepare
from train.model.dit import DiT
from train.model.dit_config import DiTConfig
from train.objective.flow import FlowConfig
from train.packing.batch import PackedBatch, Sample, pack

DEPTH = 2
PACKS: list[list[tuple[tuple[int, int, int], int | None]]] = [
    [((3, 4, 6), 3), ((1, 4, 4), 3), ((2, 6, 2), 5), ((1, 2, 2), None)],
    [((4, 4, 4), None), ((1, 2, 8), 1)],
    [((4, 8, 6), 4)],  # one sample
    [((4, 8, 6), None)],  # one sample, no caption
    [((1, 8, 6), 1)],
    [((1, 4, 6), 2)] * 5,  # along time every token is alone
    [((2, 2, 4), None)] * 3,
]
"""Latents' (T, H, W) and tokens of the captions."""
SETTINGS: list[dict[str, Any]] = [
    {},
    {"pattern": "alternating"},
    {"pattern": "factorized_dot_product", "adaln": "shared"},
    {"pattern": "factorized_self_attention", "text": "in_context", "conditioning": "in_context"},
    {"pattern": "windows", "qk_norm": False, "conditioning": "cross_attention"}
    | {"cross_attention_in": "spatial", "cross_attention_over": "joint"},
]


class Counted:
    """A backend that counts graphs, and how often they are called; "eager" does not differentiate them by itself.
    Graphs that are not differentiated are of "eager": others are traced twice."""

    def __init__(self, backend: str) -> None:
        self.backend = backend
        self.graphs = self.calls = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        self.graphs += 1
        compiled = lookup_backend(self.backend if torch.is_grad_enabled() else "eager")(graph, inputs)

        def run(*args: Any) -> Any:
            self.calls += 1
            return compiled(*args)

        return run


def batches(config: DiTConfig, rank: int = 0) -> Iterator[PackedBatch]:
    for number, shapes_of_pack in enumerate(PACKS):
        drawn = torch.Generator().manual_seed(100 * rank + number)
        samples = []
        for i, (shape, num_tokens) in enumerate(shapes_of_pack):
            latent, noise = torch.randn(2, CHANNELS, *shape, generator=drawn)
            t, h, w = shape[0], shape[1] // 2, shape[2] // 2
            given = torch.arange(t * h * w) < h * w if t > 2 and number % 2 == 0 else None
            text = None if num_tokens is None else torch.randn(num_tokens, TEXT_DIM, generator=drawn)
            fps = 0.0 if t == 1 else 8.0
            samples.append(
                Sample(clip_id=str(i), latent=latent, noise=noise, timestep=0.4, fps=fps, text=text, clean_mask=given)
            )
        yield prepare(pack(samples, (1, 2, 2), TEXT_DIM), config)


def built(config: DiTConfig) -> DiT:
    torch.manual_seed(0)
    model = DiT(config, channels=CHANNELS, text_dim=TEXT_DIM)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    return model


def loss(replica: nn.Module, batch: PackedBatch) -> torch.Tensor:
    objective = FlowConfig().build()
    return objective.loss_sum(objective.token_losses(replica, batch), batch)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counted]:
    backend = Counted("aot_eager")
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    with (
        shapes.patch(use_duck_shape=True),
        torch._dynamo.config.patch(optimize_ddp=True, specialize_float=False),
        torch._functorch.config.patch(backward_pass_autocast="same_as_forward"),
    ):
        yield backend


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: s.get("pattern", "joint"))
def test_a_block_is_one_graph_for_every_pack_with_the_same_numbers(settings: dict[str, Any], counted: Counted):
    config = dit_config(width=32, depth=DEPTH, num_heads=4, **settings)
    plain, model = built(config), built(config)
    ranks = RankGrid(rank=0, world_size=1, device=torch.device("cpu"))
    replica = parallelize(model, ranks, ParallelConfig(compile=True))
    for number, batch in enumerate(batches(config)):
        before = counted.calls
        found = loss(replica, batch)
        found.backward()
        with torch.no_grad():
            evaluated = loss(replica, batch)
        assert counted.calls - before == 2 * DEPTH, "one call of a block in each pass"
        if number == 0:
            graphs = counted.graphs
            kinds = {block.cross_attention is None for block in model.blocks}
            assert graphs == 2 * len(kinds), "one to train, one to evaluate: each of all like blocks, and traced once"
        assert counted.graphs == graphs, f"pack {number} was compiled again"
        expected = loss(plain, batch)
        expected.backward()
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
        torch.testing.assert_close(evaluated, expected, rtol=1e-5, atol=0)
    for (name, ours), reference in zip(model.named_parameters(), plain.parameters(), strict=True):
        if reference.grad is not None:
            scale = reference.grad.abs().max()
            torch.testing.assert_close(ours.grad / scale, reference.grad / scale, rtol=0, atol=1e-4, msg=name)


class SmallBuckets(DistributedDataParallel):
    """What a wide block is: larger than a bucket."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, bucket_cap_mb=0.001, **options)


def one_of_two(rank: int, folder: str, mode: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    backend, config = Counted("eager"), DiTConfig(width=32, depth=DEPTH, num_heads=2)
    torch.compile = partial(torch.compile, backend=backend)
    parallel.DistributedDataParallel = SmallBuckets
    model, ranks = built(config), RankGrid.of_group(torch.device("cpu"))
    replica = parallelize(model, ranks, ParallelConfig(compile=True, mode=mode))
    counts = []
    for batch in islice(batches(config, rank), 4):
        before = backend.calls
        loss(replica, batch).backward()
        with torch.no_grad():
            loss(model, batch)
        reshard(model)
        counts.append((backend.graphs, backend.calls - before))
    torch.save(counts, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["ddp", "fsdp"])
def test_on_two_ranks_a_block_is_one_graph_too(mode: str, tmp_path: Path):
    start_both(one_of_two, str(tmp_path), mode)
    for rank in range(2):
        graphs, calls = zip(*torch.load(tmp_path / f"{rank}.pt"), strict=True)
        assert graphs[0] <= 2 * DEPTH and set(graphs) == {graphs[0]}, graphs
        assert set(calls) == {2 * DEPTH}, calls
