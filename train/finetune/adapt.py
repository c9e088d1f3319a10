"""A model made ready to be fine-tuned: what is frozen, what has adapters, and in which type the frozen is kept."""

import re
from collections.abc import Collection, Iterator, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from torch import nn

from train.finetune.config import LoraConfig
from train.finetune.quantized import quantize
from train.finetune.targets import ADDED, Rank, linear_layers, named_parameters, named_ranks, ranks_of

if TYPE_CHECKING:
    from train.finetune.layer import LoraLinear
    from train.run.config import TrainConfig

ADAPTER = "default"
"""peft's name of the adapter that trains."""


def adapt(model: nn.Module, config: "TrainConfig", added: Collection[str] = ()) -> None:
    """Freeze what does not train and add adapters; a run that trains all of its model is left as it is.

    Args:
        model: with the weights of its base; changed in place.
        config: of the run.
        added: parameters that the base does not have, or not in this shape; they train.

    Raises:
        ValueError: a glob matches nothing, a rank is above a layer's width, or nothing would train.
    """
    finetune = config.finetune
    if not config.freezes:
        return
    parameters = dict(model.named_parameters())
    trained = named_parameters(parameters, config.trainable) | (set(added) & set(parameters))
    if not trained and finetune.kind == "full":
        raise ValueError(
            f"train.trainable=[{ADDED}]: nothing would train: the model of train.init has all parts of the run's. Add "
            "parts (train.model.temporal, text …), or name parameters by globs, such as blocks.*.temporal*"
        )
    model.requires_grad_(False)
    if isinstance(finetune, LoraConfig):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            add_adapter(
                model,
                ranks_of(model, finetune),
                dropout=finetune.dropout,
                dora=finetune.dora,
                rslora=finetune.rslora,
            )
    for name in trained:  # peft has frozen all but its own
        parameters[name].requires_grad_(True)
    if finetune.frozen_dtype in ("int8", "nf4"):
        quantize(model, finetune.frozen_dtype)
    elif finetune.frozen_dtype == "bfloat16":
        for layer in linear_layers(model).values():
            if not layer.weight.requires_grad:
                layer.weight.data = layer.weight.data.bfloat16()


def adapt_narrow(model: nn.Module, config: "TrainConfig", trained: Collection[str]) -> None:
    """As `adapt`, of a narrower model with the same names, on which memory is measured: ranks may be above its width.

    Args:
        model: changed in place.
        config: of the run.
        trained: parameters of the run's model that train.
    """
    parameters = dict(model.named_parameters())
    model.requires_grad_(False)
    if isinstance(config.finetune, LoraConfig):
        add_adapter(
            model, named_ranks(model, config.finetune), dropout=config.finetune.dropout, dora=config.finetune.dora
        )
    for name in parameters.keys() & {name.replace(".base_layer.", ".") for name in trained}:
        parameters[name].requires_grad_(True)


def check_frozen_dtype(config: "TrainConfig") -> None:
    """Of a run whose activations are float32.

    Raises:
        ValueError: frozen layers could not compute with them.
    """
    if config.finetune.frozen_dtype == "bfloat16":
        raise ValueError(
            "train.finetune.frozen_dtype is bfloat16, and train.dtype=auto is float32 on this device: frozen layers "
            "compute in the type of activations. Set train.dtype=bfloat16, or frozen_dtype=float32"
        )


def add_adapter(
    model: nn.Module,
    ranks: Mapping[str, Rank],
    name: str = ADAPTER,
    *,
    dropout: float = 0.0,
    dora: bool = False,
    rslora: bool = False,
) -> None:
    """Give linear layers, by name, an adapter each, which begins without effect; one more where they have some.

    Raises:
        ValueError: peft is not installed.
    """
    if find_spec("peft") is None:
        raise ValueError("low-rank updates need peft: pip install 'reelpack[finetune]'")
    from train.finetune.layer import LoraLinear  # before peft, which it makes importable

    from peft import LoraConfig as PeftConfig  # isort: skip
    from peft import inject_adapter_in_model  # isort: skip

    settings = PeftConfig(
        target_modules="|".join(map(re.escape, ranks)),
        rank_pattern={re.escape(layer): one.rank for layer, one in ranks.items()},
        alpha_pattern={re.escape(layer): one.alpha for layer, one in ranks.items()},
        lora_dropout=dropout,
        use_dora=dora,
        use_rslora=rslora,
    )
    settings._register_custom_module({nn.Linear: LoraLinear})
    inject_adapter_in_model(settings, model, adapter_name=name)


def adapted_layers(model: nn.Module) -> Iterator[tuple[str, "LoraLinear"]]:
    """Layers with adapters, by their names in the model."""
    if all(not name.endswith(".base_layer") for name, _ in model.named_modules()):
        return  # peft is not imported for nothing
    from train.finetune.layer import LoraLinear

    yield from ((name, module) for name, module in model.named_modules() if isinstance(module, LoraLinear))


def merge(model: nn.Module) -> None:
    """Add the updates to the weights that they adapt; the layers are plain again, and float32."""
    model.float()
    for name, layer in list(adapted_layers(model)):
        layer.merge()
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.get_base_layer())
