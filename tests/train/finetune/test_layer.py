"""A layer with updates equals the product with the summed weight, forward and backward, and keeps its input alone."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.train.conftest import ragged_samples
from train.finetune.adapt import adapt, adapted_layers, add_adapter, merge
from train.finetune.layer import _LowRank
from train.finetune.targets import Rank
from train.model.dit import DiT
from train.packing.batch import pack
from train.run.config import TrainConfig


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x).tanh())


def net(**settings: bool) -> Net:
    torch.manual_seed(0)
    model = Net()
    add_adapter(model, {"first": Rank(rank=2, alpha=3.0), "second": Rank(rank=4, alpha=2.0)}, **settings)
    for _, layer in adapted_layers(model):
        nn.init.normal_(layer.lora_B["default"].weight)
    return model


@pytest.mark.parametrize("half", [False, True])
def test_outputs_and_gradients_are_those_of_the_summed_weight(half: bool):
    model, x = net(), torch.randn(3, 7, 6, requires_grad=True)
    rough = {"atol": 0.15, "rtol": 0.1} if half else {"atol": 1e-5, "rtol": 1e-5}

    def reference(x: torch.Tensor) -> torch.Tensor:
        for layer in (model.first, model.second):
            update = layer.lora_B["default"].weight @ layer.lora_A["default"].weight * layer.scaling["default"]
            x = F.linear(x, layer.base_layer.weight + update, layer.base_layer.bias)
            x = x.tanh() if layer is model.first else x
        return x

    trained = [p for p in model.parameters() if p.requires_grad]
    assert len(trained) == 4
    if half:
        for layer in (model.first, model.second):
            layer.base_layer.weight.data = layer.base_layer.weight.data.bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        out = model(x)
    expected = reference(x)
    torch.testing.assert_close(out.float(), expected, **rough)
    grads = torch.autograd.grad(out.float().square().sum(), [x, *trained])
    wanted = torch.autograd.grad(expected.square().sum(), [x, *trained])
    for found, right in zip(grads, wanted, strict=True):
        assert found.dtype == right.dtype
        torch.testing.assert_close(found, right, **({"atol": 3.0, "rtol": 0.2} if half else rough))


@pytest.mark.parametrize("settings", [{}, {"dora": True}, {"rslora": True}])
def test_a_merged_model_has_the_outputs_of_the_adapted_one_and_plain_layers(settings: dict[str, bool]):
    model, x = net(**settings), torch.randn(4, 6)
    before = model(x)
    merge(model)
    assert type(model.first) is nn.Linear and set(model.state_dict()) == set(Net().state_dict())
    torch.testing.assert_close(model(x), before)
    assert not torch.allclose(before, net().first.base_layer(x)[:, :5])


def test_frozen_parts_of_a_block_keep_no_inputs_and_get_no_gradients():
    model_config = {"width": 48, "depth": 2, "num_heads": 2}
    full = TrainConfig.model_validate({"model": model_config})
    lora = TrainConfig.model_validate({"model": model_config, "init": "base", "finetune": {"kind": "lora", "rank": 4}})
    batch = pack(ragged_samples(), full.model.patch, 12)
    kept = {}
    for name, config in (("full", full), ("lora", lora)):
        model = DiT(config.model, channels=4, text_dim=12)
        for block in model.blocks:
            nn.init.normal_(block.modulation.linear.weight, std=0.1)
        nn.init.normal_(model.final.linear.weight)
        adapt(model, config)
        own = {p.untyped_storage().data_ptr() for p in model.parameters()}
        sizes: dict[int, int] = {}

        def keep(tensor: torch.Tensor, own: set[int] = own, sizes: dict[int, int] = sizes) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                sizes[storage.data_ptr()] = storage.nbytes()
            return tensor.detach()

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = config.objective.build().token_losses(model, batch).mean()
        kept[name] = sum(sizes.values())
        loss.backward()
        assert all((p.grad is not None) == p.requires_grad for p in model.parameters())
    assert kept["lora"] < 0.7 * kept["full"]


def test_the_weight_of_a_quantized_layer_is_made_again_for_gradients_of_inputs_alone():
    weight, made = torch.randn(8, 6), list[torch.dtype]()
    down, up = torch.randn(2, 6, requires_grad=True), torch.randn(8, 2, requires_grad=True)

    def dense(dtype: torch.dtype) -> torch.Tensor:
        made.append(dtype)
        return weight.to(dtype)

    for needs_gradient, times in ((False, 1), (True, 2)):
        x = torch.randn(3, 6, requires_grad=needs_gradient)
        _LowRank.apply(x, None, None, down, up, 1.0, dense).sum().backward()
        assert len(made) == times
        made.clear()
