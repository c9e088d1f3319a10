"""What a run is said to take is what it takes."""

import gc
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.models import nested
from tests.train.test_loop import config
from train.estimate.memory import MemoryEstimate, OutOfMemory, estimate_memory, machine_bytes, warn_if_too_large
from train.finetune.adapt import adapt
from train.loop import train
from train.model.dit import DiT
from train.objective.flow import RectifiedFlow
from train.packing.batch import Sample, pack
from train.run.config import TrainConfig


def kept_bytes(settings: TrainConfig, model: DiT, samples: list[Sample], dtype: torch.dtype) -> int:
    """What autograd holds on to after the forward pass of a pack, but for weights in any type."""
    batch = pack(samples, model.config.patch, 12)
    weights = {tuple(p.shape) for p in model.parameters()} | {tuple(p.shape[::-1]) for p in model.parameters()}
    held: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tuple(tensor.shape) not in weights:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor.detach()

    half = torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is torch.bfloat16)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), half:
        losses = settings.objective.build().token_losses(model, batch)
    assert losses.requires_grad
    return sum(storage.nbytes() for storage in held.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [{}, {"pattern": "factorized_self_attention"}, {"qk_norm": False, "text": "pooled"}])
def test_the_estimate_is_what_autograd_keeps_of_a_large_pack(dtype: torch.dtype, shape: dict[str, Any]):
    settings = TrainConfig.model_validate({"model": nested(width=192, depth=7, num_heads=6, **shape)})
    model = DiT(settings.model, channels=4, text_dim=12)
    latents = [torch.zeros(4, *grid) for grid in ((6, 16, 24), (1, 32, 32), (3, 20, 16))]
    text = torch.zeros(2, 12)
    samples = [Sample(clip_id="", latent=x, noise=x, timestep=0.5, fps=8.0, text=text) for x in latents]
    num_tokens = sum(x[0].numel() // 4 for x in latents)
    predicted = estimate_memory(settings, model, num_tokens, 1, dtype).activation_bytes
    assert predicted == pytest.approx(kept_bytes(settings, model, samples, dtype), rel=0.1)


@pytest.mark.parametrize(
    "changes",
    [
        {"finetune": {"kind": "lora"}},
        {"finetune": {"kind": "lora", "rank": 8, "targets": ["blocks.[3-6].*"]}},
        {"trainable": ["blocks.*.mlp.*"]},
    ],
)
def test_the_estimate_of_a_fine_tuned_model_is_what_autograd_keeps(changes: dict[str, Any]):
    shape = nested(width=192, depth=7, num_heads=6)
    settings = TrainConfig.model_validate({"model": shape, "init": "base"} | changes)
    model = DiT(settings.model, channels=4, text_dim=12)
    adapt(model, settings)
    latents = [torch.zeros(4, *grid) for grid in ((6, 16, 24), (1, 32, 32))]
    samples = [Sample(clip_id="", latent=x, noise=x, timestep=0.5, fps=8.0, text=torch.zeros(2, 12)) for x in latents]
    estimate = estimate_memory(settings, model, sum(x[0].numel() // 4 for x in latents), 1, torch.float32)
    kept = kept_bytes(settings, model, samples, torch.float32)
    assert estimate.activation_bytes == pytest.approx(kept, rel=0.1)
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    assert estimate.state_bytes == sum(n * (20 if trains else 4) for n, trains in sizes)


def test_what_an_estimate_tried_is_freed():
    settings = TrainConfig.model_validate({"model": {"width": 48, "depth": 2, "num_heads": 2}})
    model = DiT(settings.model, channels=4, text_dim=12)
    gc.collect()
    before = sum(type(held) is torch.Tensor for held in gc.get_objects())
    estimate_memory(settings, model, 100, 1, torch.float32)
    gc.collect()
    assert sum(type(held) is torch.Tensor for held in gc.get_objects()) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"objective": {"kind": "ddpm", "learn_sigma": True}, "model": {"num_classes": 3}},
        {"model": {"position": "absolute", "max_grid": (3, 4, 4), "patch": (2, 2, 2), "conditions": ["motion"]}},
        {"model": {"pattern": "windows", "shift_windows": True, "adaln": "lora", "text": "none"}},
        {"model": {"pattern": "factorized_encoder", "conditioning": "in_context", "text": "in_context"}},
    ],
)
def test_every_kind_of_model_has_an_estimate_that_recomputation_lowers(changes: dict[str, Any]):
    def estimate(every: int) -> int:
        shape = {"width": 48, "depth": 4, "num_heads": 4} | changes["model"]
        parallel = {"activation_checkpoint_every": every}
        settings = TrainConfig.model_validate(changes | {"model": nested(**shape), "parallel": parallel})
        model = DiT(settings.model, channels=4, text_dim=12, num_outputs=settings.objective.num_outputs)
        return estimate_memory(settings, model, 1000, 1, torch.float32).activation_bytes

    assert 0 < estimate(1) < estimate(2) < estimate(0)


def test_the_estimate_is_told_before_the_first_step(dataset: str, tmp_path: Path):
    told: list[Any] = []
    summary = train(config(steps=2), dataset, tmp_path, on_step=told.append, on_start=told.append)
    assert isinstance(told[0], MemoryEstimate) and told[1]["step"] == 1
    assert told[0].num_parameters == summary.num_parameters and told[0].num_tokens == 128
    assert "activations of a pack of 128 tokens" in str(told[0])


def test_out_of_memory_says_what_was_used_and_what_to_set(
    dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity …")

    monkeypatch.setattr(RectifiedFlow, "loss_sum", full)
    with pytest.raises(OutOfMemory) as error:
        train(config(), dataset, tmp_path)
    message = str(error.value)
    for part in (
        "GiB were in use at most; predicted were",
        "a pack of 128 tokens",
        "train.parallel.activation_checkpoint_every=1",
        "train.parallel.mode=fsdp",
        "train.data.plan.token_budget=64",
        "(CUDA out of memory)",
    ):
        assert part in message, message
    with pytest.raises(OutOfMemory) as error:
        train(config(parallel__activation_checkpoint_every=1), dataset, tmp_path / "other")
    assert "activation_checkpoint_every" not in str(error.value)


@pytest.mark.parametrize(("total_bytes", "warns"), [(2 * 2**30, True), (4 * 2**30, False), (None, False)])
def test_a_run_that_the_device_will_not_hold_is_warned_of_before_it_starts(
    caplog: pytest.LogCaptureFixture, total_bytes: int | None, warns: bool
):
    estimate = MemoryEstimate(
        num_parameters=1, num_trainable=1, num_tokens=1, state_bytes=2**30, activation_bytes=2 * 2**30
    )
    warn_if_too_large(config(), estimate, total_bytes)
    assert ["likely to run out of memory" in record.message for record in caplog.records] == [True] * warns
    assert not warns or "activation_checkpoint_every" in caplog.text


def test_blocks_that_are_recomputed_leave_their_inputs_and_one_of_them_at_a_time():
    def estimate(depth: int, every: int) -> int:
        shape = {"width": 64, "depth": depth, "num_heads": 2}
        settings = TrainConfig.model_validate({"model": shape, "parallel": {"activation_checkpoint_every": every}})
        model = DiT(settings.model, channels=4, text_dim=12, num_outputs=settings.objective.num_outputs)
        return estimate_memory(settings, model, 1000, 1, torch.float32).activation_bytes

    inputs = 1000 * 64 * 4
    assert estimate(4, 1) == pytest.approx(estimate(1, 0) + 4 * inputs, abs=2)
    assert estimate(4, 2) == pytest.approx(estimate(3, 0) + 2 * inputs, abs=2)


def test_the_machines_memory_is_that_of_its_control_group(monkeypatch: pytest.MonkeyPatch):
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    for said, expected in (("max\n", whole), ("4096\n", 4096), (f"{2 * whole}\n", whole)):
        monkeypatch.setattr(Path, "read_text", lambda _, said=said: said)
        assert machine_bytes() == expected
