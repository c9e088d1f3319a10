"""What ranks share, recompute or compile changes no gradient."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor

from tests.support.forks import start_both
from tests.train.conftest import ragged_samples
from train.distributed.parallelize import accumulate, clear_gradients, full_tensor, parallelize
from train.distributed.ranks import RankGrid
from train.model.dit import DiT
from train.model.dit_config import DiTConfig
from train.objective.config import FlowConfig
from train.optim.ema import EMA
from train.packing.batch import PackedBatch, pack
from train.run.config import EMAConfig, ParallelConfig

NUM_PACKS = 4
Weights = dict[str, torch.Tensor]


def built() -> DiT:
    """A model in which nothing is zero, the same in every process."""
    torch.manual_seed(0)
    model = DiT(DiTConfig(width=32, depth=3, num_heads=2, self_conditioning=0.5), channels=4, text_dim=12)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    return model


def packed(number: int) -> PackedBatch:
    """One of the packs; in every second one some samples are shown the model's own estimate."""
    samples = ragged_samples(number)[number:]
    drawn = [replace(one, self_conditioned=number % 2 == i % 2 == 0) for i, one in enumerate(samples)]
    return pack(drawn, (1, 2, 2), 12)


def backward(model: nn.Module, replica: nn.Module, packs: Sequence[int], num_ranks: int) -> None:
    objective = FlowConfig().build()
    for i, number in enumerate(packs):
        batch = packed(number)
        more = i + 1 < len(packs)
        with accumulate(replica, more_to_come=more):
            (objective.loss_sum(objective.token_losses(replica, batch), batch) * num_ranks).backward()
        if more and any(isinstance(p, DTensor) for p in model.parameters()):
            held = sum(p.grad.to_local().numel() for p in model.parameters())
            assert held <= 0.6 * sum(p.numel() for p in model.parameters()), "gradients are sharded between packs, too"


def alone(config: ParallelConfig) -> tuple[Weights, Weights]:
    """Weights and gradients of one process."""
    ranks = RankGrid(rank=0, world_size=1, device=torch.device("cpu"))
    model = built()
    replica = parallelize(model, ranks, config)
    backward(model, replica, range(NUM_PACKS), 1)
    return {n: p.detach() for n, p in model.named_parameters()}, {n: p.grad for n, p in model.named_parameters()}


def one_of_two(rank: int, folder: str, config: ParallelConfig) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    ranks = RankGrid.of_group(torch.device("cpu"))
    model = built()
    replica = parallelize(model, ranks, config)
    weights = {name: full_tensor(p.detach()) for name, p in model.named_parameters()}
    backward(model, replica, range(NUM_PACKS)[rank::2], 2)
    gradients = {name: full_tensor(p.grad).clone() for name, p in model.named_parameters()}
    if config.mode == "ddp":
        check_gradients_lie_in_buckets(model, replica, range(NUM_PACKS)[rank::2])
    ema = EMA(model, EMAConfig())
    ema.update(model, 0)
    with ema.applied_to(model):
        pass
    assert all(torch.equal(full_tensor(p.detach()), weights[name]) for name, p in model.named_parameters())
    torch.save((weights, gradients), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def check_gradients_lie_in_buckets(model: nn.Module, replica: nn.Module, packs: Sequence[int]) -> None:
    """Also between packs of a later step: none is held twice."""

    def places() -> set[int]:
        return {p.grad.untyped_storage().data_ptr() for p in model.parameters()}

    gradients = [p.grad.clone() for p in model.parameters()]
    optimizer, objective = torch.optim.SGD(model.parameters()), FlowConfig().build()
    clear_gradients(replica, optimizer)
    batch = packed(packs[0])
    with accumulate(replica, more_to_come=True):
        objective.loss_sum(objective.token_losses(replica, batch), batch).backward()
    buckets = places()
    assert len(buckets) < len(gradients), "gradients beside the buckets"
    clear_gradients(replica, optimizer)
    backward(model, replica, packs, 2)
    assert places() == buckets
    for parameter, expected in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, expected)


def assert_same(got: Weights, expected: Weights) -> None:
    assert got.keys() == expected.keys()
    scale = max(value.abs().max() for value in expected.values())
    for name, value in expected.items():
        torch.testing.assert_close(
            got[name] / scale, value / scale, rtol=0, atol=1e-6, msg=f"{name}: gradients differ"
        )


@pytest.mark.slow
@pytest.mark.parametrize("every", [0, 2])
@pytest.mark.parametrize("mode", ["ddp", "fsdp"])
def test_two_ranks_have_the_weights_and_gradients_of_one(mode: str, every: int, tmp_path: Path):
    config = ParallelConfig(mode=mode, activation_checkpoint_every=every)
    start_both(one_of_two, str(tmp_path), config)
    weights, gradients = alone(ParallelConfig())
    for rank in range(2):
        found_weights, found = torch.load(tmp_path / f"{rank}.pt")
        assert all(torch.equal(found_weights[name], weight) for name, weight in weights.items())
        assert_same(found, gradients)


@pytest.mark.parametrize("every", [1, 2])
def test_recomputed_blocks_have_the_same_gradients(every: int):
    _, expected = alone(ParallelConfig())
    _, found = alone(ParallelConfig(activation_checkpoint_every=every))
    assert_same(found, expected)


@pytest.mark.parametrize(("every", "met"), [(0, [1, 1, 1]), (1, [2, 2, 2]), (2, [2, 1, 2]), (3, [2, 1, 1])])
def test_every_so_many_blocks_one_is_computed_again(every: int, met: list[int]):
    model, seen = built(), [0, 0, 0]
    for number, block in enumerate(model.blocks):

        def count(*_: object, number: int = number) -> None:
            seen[number] += torch.is_grad_enabled()  # not the pass that makes the estimate

        block.mlp.register_forward_hook(count)
    ranks = RankGrid(rank=0, world_size=1, device=torch.device("cpu"))
    backward(
        model,
        parallelize(model, ranks, ParallelConfig(activation_checkpoint_every=every)),
        [0],
        1,
    )
    assert seen == met


def _reduces_along_dp(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    ranks = RankGrid.of_group(torch.device("cpu"))
    assert ranks.mesh is not None and ranks.mesh.mesh_dim_names == ("dp", "cp")
    assert (ranks.dp_rank, ranks.dp_size, ranks.is_main) == (rank, 2, rank == 0)
    assert ranks.sum(torch.tensor([1.0 + rank])).item() == 3
    assert ranks.all_gather([rank, 7]).tolist() == [[0, 7], [1, 7]]
    assert ranks.any(rank == 1) and not ranks.any(False)
    dist.destroy_process_group()


@pytest.mark.slow
def test_ranks_are_a_mesh_whose_dp_axis_reduces(tmp_path: Path):
    start_both(_reduces_along_dp, str(tmp_path))
