"""Ranks that share packs compute what one rank does: losses and gradients, for every pattern that allows it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

from tests.support.forks import start_ranks
from tests.support.models import dit_config
from tests.train.conftest import ragged_samples
from train.align.base import Alignment
from train.align.config import PatchesConfig, PooledConfig
from train.align.patches import PatchAlignment
from train.align.pooled import PooledAlignment, Targets
from train.distributed.parallelize import full_tensor, parallelize
from train.distributed.ranks import RankGrid
from train.estimate.forecast import Forecast, forecast
from train.model.dit import DiT
from train.objective.config import FlowConfig
from train.packing.batch import PackedBatch, Sample, pack
from train.run.config import ParallelConfig, TrainConfig
from train.run.folder import check_ranks

Gradients = dict[str, torch.Tensor]
CPU = torch.device("cpu")
WINDOWS = {"pattern": "windows", "depth": 4, "spatial_window": (1, 2, 1), "spacetime_window": (2, 1, 2)}
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "joint": {},
    "in context": {"conditioning": "in_context", "text": "in_context"},
    "conditions are attended to": {"conditioning": "cross_attention", "pattern": "alternating"},
    "factorized": {"pattern": "factorized_self_attention", "patch": (2, 2, 2)},
    "halves of the heads": {"pattern": "factorized_dot_product", "num_heads": 8, "width": 64, "text": "in_context"},
    "windows": WINDOWS | {"shift_windows": True, "text": "in_context", "kernel": "dense"},
    "W.A.L.T": WINDOWS | {"cross_attention_in": "spatial", "cross_attention_over": "joint", "adaln": "lora"},
    "pooling": {"mixer": {"kind": "pooling"}, "position": "sincos", "self_conditioning": 0.5},
    "ring": {"num_heads": 3, "text": "in_context", "conditioning": "in_context"},
    "ring of windows": WINDOWS | {"num_heads": 3, "text": "in_context"},
    "sparse-causal": {"pattern": "sparse_causal", "text": "in_context"},
    "ring of frames": {"num_heads": 3, "pattern": "sparse_causal", "text": "in_context"},
    "pictures": {"picture": {"dim": 6, "positions": 3}, "text_padding": 8},
    "ring along time": {"num_heads": 3, "pattern": "alternating", "patch": (2, 2, 2)},
}


def built(settings: Mapping[str, Any]) -> DiT:
    """A model in which nothing is zero, the same in every process."""
    shape = {"width": 48, "depth": 2, "num_heads": 4, "conditioning_latents": {"shown": 2}}
    model = DiT(dit_config(**shape | dict(settings)), channels=4, text_dim=12)
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.15)
    return model


def packs(model: DiT) -> Iterator[PackedBatch]:
    """Two: of unlike samples, some with dropped and given tokens; and of one image of two tokens."""
    first, second, *rest = ragged_samples()
    drawn = model.config.self_conditioning or None
    first = replace(first, conditioning={"shown": first.latent[:2]})
    if model.config.pictures is not None:
        first = replace(first, picture=torch.randn(3, 6, generator=torch.Generator().manual_seed(2)))
    second = replace(second, clean_mask=torch.arange(4) < 2)
    rest[2] = replace(rest[2], kept=torch.tensor([0, 1]))
    tiny = replace(second, latent=second.latent[..., :2], noise=second.noise[..., :2], clean_mask=None)
    for samples in ([first, second, *rest], [tiny]):
        shown: list[Sample] = [replace(one, self_conditioned=drawn and i % 2 == 0) for i, one in enumerate(samples)]
        yield model.config.prepare(pack(shown, model.config.patch, 12))


def step(model: DiT, replica: nn.Module, batches: Sequence[PackedBatch], scale: int = 1) -> tuple[float, Gradients]:
    """Loss and gradients of this rank."""
    objective, total = FlowConfig().build(), 0.0
    for batch in batches:
        loss = objective.loss_sum(objective.token_losses(replica, batch), batch)
        (loss * scale).backward()
        total += loss.item()
    gradients = {name: full_tensor(p.grad).clone() for name, p in model.named_parameters()}
    model.zero_grad()
    return total, gradients


def assert_same(case: str, got: tuple[float, Gradients], expected: tuple[float, Gradients]) -> None:
    assert got[0] == pytest.approx(expected[0], rel=1e-5), case
    assert max(gradient.abs().max() for gradient in expected[1].values()) > 0.01
    for name, gradient in expected[1].items():
        scale = max(1.0, gradient.abs().max().item())
        torch.testing.assert_close(got[1][name], gradient, atol=2e-5 * scale, rtol=0, msg=f"{case}: {name} differs")


def check_alignment(ranks: RankGrid) -> None:
    """By the mean feature of a whole sample, and by token."""
    group, generator = ranks.context_group, torch.Generator().manual_seed(0)
    assert group is not None
    targets = Targets([f"clip-{i}" for i in range(6)], np.random.default_rng(0).standard_normal((6, 5)))
    shape = {"weight": 0.5, "block": 0, "projector_dim": 8}
    for alignment in (
        PooledAlignment(PooledConfig(**shape), "embedding-0", targets, 48, 0),
        PatchAlignment(PatchesConfig(**shape), "encoder", width=48, dim=5, seed=0),
    ):
        model = built({})
        whole = [
            replace(batch, features=torch.randn(len(batch.tokens), 5, generator=generator).half())
            for batch in packs(model)
        ]
        model.add_module("projector", alignment.projector)
        expected = aligned_step(alignment, model, whole)
        loss, gradients = aligned_step(alignment, model, [model.config.share(whole[ranks.dp_rank], group)])
        total = ranks.sum(torch.tensor(loss, dtype=torch.float64)).item()
        got = total, {name: ranks.sum(gradient) for name, gradient in gradients.items()}
        assert_same(type(alignment).__name__, got, expected)


def aligned_step(alignment: Alignment, model: DiT, batches: Sequence[PackedBatch]) -> tuple[float, Gradients]:
    losses = [alignment.losses(model, FlowConfig().build(), batch)[1] for batch in batches]
    torch.stack(losses).sum().backward()
    gradients = {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}
    model.zero_grad()
    return sum(loss.item() for loss in losses), gradients


def one_of_four(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=4)
    grids = {context: RankGrid.of_group(CPU, context) for context in (2, 4)}
    for case, settings in VARIANTS.items():
        model = built(settings)
        whole = list(packs(model))
        expected = step(model, model, whole)
        for context, ranks in grids.items():
            group = ranks.context_group
            assert group is not None and group.size == context
            own = [model.config.share(batch, group) for batch in whole[ranks.dp_rank :: ranks.dp_size]]
            assert sum(len(batch.tokens) for batch in own) < sum(len(batch.tokens) for batch in whole)
            assert sum(map(model.flops, own)) == sum(map(model.flops, whole[ranks.dp_rank :: ranks.dp_size]))
            loss, gradients = step(model, model, own)
            total = ranks.sum(torch.tensor(loss, dtype=torch.float64)).item()
            summed = {name: ranks.sum(gradient) for name, gradient in gradients.items()}
            assert_same(f"{case}, {context} ranks", (total, summed), expected)
    ranks = grids[2]
    group = ranks.context_group
    assert group is not None
    check_alignment(ranks)
    for mode, more in (("ddp", {}), ("fsdp", {}), ("hsdp", {"shard": 2})):
        model = built({})
        whole = list(packs(model))
        expected = step(model, model, whole)
        config = ParallelConfig(mode=mode, context=2, activation_checkpoint_every=2, **more)
        replica = parallelize(model, ranks, config)
        own = model.config.share(whole[ranks.dp_rank], group)
        loss, gradients = step(model, replica, [own], ranks.world_size)
        assert_same(mode, (ranks.sum(torch.tensor(loss, dtype=torch.float64)).item(), gradients), expected)
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_and_four_ranks_that_share_packs_have_the_loss_and_gradients_of_one(tmp_path: Path) -> None:
    start_ranks(one_of_four, 4, str(tmp_path))


@pytest.mark.parametrize(
    ("context", "model", "reason"),
    [
        (2, {"kind": "unet"}, "is 2, and the convolutions of model.kind unet"),
        (2, {"mixer": {"kind": "mamba"}, "position": "sincos"}, "is 2, and of Mamba .*the scan reads"),
        (2, {"mixer": {"kind": "samba"}}, "is 2, and of Samba .*the scan reads"),
        (2, {"mixer": {"kind": "sliding_attention"}}, "is 2, and of Sliding .*a token sees its neighbors"),
        (4, {"mixer": {"kernel": "dense"}}, r"is 4, which does not divide the 6 heads .*\(pattern joint\)"),
        (
            7,
            {"mixer": {"kind": "pooling"}, "position": "sincos"},
            "is 7, and each rank pools a part of model.width 384",
        ),
        (
            4,
            {"cross_attention_over": "joint", "mixer": {"pattern": "windows"}},
            "is 4, which does not divide the 6 heads of .* cross_attention_over is joint",
        ),
    ],
)
def test_what_ranks_cannot_share_is_refused_with_the_reason(context: int, model: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        TrainConfig.model_validate({"model": model, "parallel": {"context": context}})
    TrainConfig.model_validate({"model": model})


def test_ranks_that_make_no_groups_or_shards_are_refused_with_both_numbers() -> None:
    def config(packs: int, **parallel: Any) -> TrainConfig:
        plan = {"packs_per_step": packs}
        return TrainConfig.model_validate({"data": {"plan": plan}, "parallel": parallel})

    with pytest.raises(ValueError, match=r"got 3 ranks and train\.parallel\.context=2"):
        check_ranks(config(4, context=2), 3)
    with pytest.raises(ValueError, match="2 groups of 2 ranks cannot share a step of 1 packs"):
        check_ranks(config(1, context=2), 4)
    with pytest.raises(ValueError, match=r"2 groups of 2 ranks gather .* 3 packs cannot be dealt evenly"):
        check_ranks(config(3, context=2, mode="fsdp"), 4)
    with pytest.raises(ValueError, match=r"got 6 ranks and train\.parallel\.shard=4"):
        check_ranks(config(6, mode="hsdp", shard=4), 6)
    with pytest.raises(ValueError, match=r"got parallel\.mode fsdp and parallel\.shard 4"):
        config(1, mode="fsdp", shard=4)
    check_ranks(config(1, context=4), 4)
    check_ranks(config(4, mode="hsdp", shard=4, context=2), 8)


def test_the_memory_that_is_told_is_of_a_ranks_part_of_a_pack(dataset: str) -> None:
    def told(**parallel: Any) -> Forecast:
        model = {"width": 48, "depth": 2, "num_heads": 2}
        plan = {"token_budget": 128, "packs_per_step": 2}
        settings = {"model": model, "data": {"plan": plan}, "parallel": parallel}
        return forecast(TrainConfig.model_validate(settings), dataset, 4)

    groups, sharded = told(context=2), told(context=2, mode="hsdp", shard=2)
    assert groups.state_bytes == 2 * sharded.state_bytes
    with pytest.raises(ValueError, match="4 ranks cannot share a step of 2 packs"):
        told()
    assert told(context=4).activation_bytes == pytest.approx(groups.activation_bytes / 2, rel=0.02)
    assert told(context=4).idle == 0
