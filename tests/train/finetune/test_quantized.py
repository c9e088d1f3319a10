"""Frozen layers in 8 and 4 bits: their values, outputs and gradients, and runs that train updates of them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from tests.train.finetune.test_runs import LORA, QUIET, losses_of, same
from tests.train.test_loop import config
from train.finetune.adapt import adapt
from train.finetune.quantized import (
    KINDS,
    Bits,
    ConditionLinear,
    QuantizedLinear,
    dequantize,
    frozen_bytes,
    num_parameters,
    quantize,
)
from train.loop import train
from train.model.base import Denoiser
from train.run.config import TrainConfig
from train.run.export import export_run
from train.run.folder import load_model

BITS: tuple[Bits, ...] = ("int8", "nf4")
ERRORS = {"int8": 0.009, "nf4": 0.095}
"""Of normal weights, as a share of their length: a step of max / 127 and √12; QLoRA's code of 16 values."""


@pytest.fixture(scope="module")
def base(dataset: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("base")
    train(config(steps=4, **QUIET), dataset, out / "run")
    return export_run(out / "run", out / "model")


def tuned(base: Path, bits: str, **changes: Any) -> TrainConfig:
    settings = {"steps": 4, "optimizer__schedule": "constant", "optimizer__warmup_steps": 0, "checkpoint__every": 2}
    return config(**{"init": str(base), "finetune": LORA | {"frozen_dtype": bits}} | settings | QUIET | changes)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("kind", [nn.Linear, ConditionLinear])
def test_a_layer_is_the_plain_one_of_its_values(bits: Bits, kind: type[nn.Linear]):
    torch.manual_seed(0)
    layer, x = kind(96, 128), torch.randn(5, 96, requires_grad=True)
    narrow = KINDS[bits](layer)
    values = narrow.plain().weight.detach()
    error = float((values - layer.weight.detach()).norm() / values.norm())
    assert 0.4 * ERRORS[bits] < error < ERRORS[bits]
    out = narrow(x)
    expected = nn.functional.linear(x, values, layer.bias)
    torch.testing.assert_close(out, expected)
    found, right = (torch.autograd.grad(y.square().sum(), [x, layer.bias]) for y in (out, expected))
    torch.testing.assert_close(found, right)
    with torch.autocast("cpu", torch.bfloat16):
        assert narrow(x).dtype == (torch.float32 if kind is ConditionLinear else torch.bfloat16)
    assert narrow.weight.nbytes == 96 * 128 // (1 if bits == "int8" else 2)


@pytest.mark.parametrize("bits", BITS)
def test_a_model_with_updates_on_quantized_layers_is_the_one_on_their_values(base: Path, bits: Bits):
    settings, model = tuned(base, bits), Denoiser.from_pretrained(base)
    weights = num_parameters(model)
    blocks = sum(p.numel() for p in model.blocks.parameters())
    adapt(model, settings)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert num_parameters(model) == weights + sum(p.numel() for p in trained.values())
    assert frozen_bytes(model) < 4 * (weights - blocks) + blocks * (2 if bits == "int8" else 1.5)
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, QuantizedLinear)}
    assert any(".base_layer" in name for name in layers) and any(layer.is_condition for layer in layers.values())
    assert all(name.startswith("blocks.") for name in layers)
    for parameter in trained.values():
        nn.init.normal_(parameter, std=0.1)
    block = model.blocks[0]
    attention = next(module for name, module in block.named_modules() if name.endswith("to_q"))
    x = torch.randn(7, attention.in_features, requires_grad=True)
    found = [attention(x), *torch.autograd.grad(attention(x).square().sum(), [x, *attention.lora_A.parameters()])]
    dequantize(model)
    assert not any(isinstance(layer, QuantizedLinear) for layer in model.modules())
    right = [attention(x), *torch.autograd.grad(attention(x).square().sum(), [x, *attention.lora_A.parameters()])]
    torch.testing.assert_close(found, right)


@pytest.mark.parametrize("bits", BITS)
def test_a_run_lowers_its_loss_resumes_and_is_read_as_it_trained(dataset: str, base: Path, tmp_path: Path, bits: str):
    train(tuned(base, bits), dataset, tmp_path / "whole")
    train(tuned(base, bits, steps=2), dataset, tmp_path / "parts")
    train(tuned(base, bits), dataset, tmp_path / "parts")
    assert losses_of(tmp_path / "parts") == losses_of(tmp_path / "whole")
    model = load_model(tmp_path / "whole", weights="model")[0]
    assert same(model.state_dict(), load_model(tmp_path / "parts", weights="model")[0].state_dict())
    assert all(p.dtype == torch.float32 for p in model.parameters())
    merged = Denoiser.from_pretrained(export_run(tmp_path / "whole", tmp_path / "merged", merges=True))
    plain = Denoiser.from_pretrained(base)
    quantize(plain.requires_grad_(False), bits)  # type: ignore[arg-type]  # one of them
    dequantize(plain)
    near, far = plain.state_dict(), Denoiser.from_pretrained(base).state_dict()
    frozen = next(
        name for name in near if name.startswith("blocks.") and "modulation" in name and near[name].ndim == 2
    )
    assert torch.equal(merged.state_dict()[frozen], near[frozen]) and not torch.equal(near[frozen], far[frozen])


def test_what_cannot_be_quantized_is_refused(
    dataset: str, base: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    with pytest.raises(ValidationError, match=r"dora and finetune\.frozen_dtype=nf4"):
        tuned(base, "nf4", finetune={"kind": "lora", "dora": True, "frozen_dtype": "nf4"})
    with pytest.raises(ValidationError, match=r"parallel\.mode is fsdp: codes of weights are not sharded"):
        tuned(base, "int8", parallel__mode="fsdp")
    monkeypatch.setattr("train.finetune.quantized.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="bitsandbytes is not installed; pip install"):
        train(tuned(base, "nf4"), dataset, tmp_path / "run")
    assert not (tmp_path / "run/run.json").exists()
