"""Released families in and out: what is equal, by how much, and what diffusers makes of what is written.

    python -m benchmarks.families [NAME ...]

Each family is a small random pipeline of diffusers' own classes (tests/support/diffusers_pipelines.py), which
`train-import` reads and `train-export --to diffusers` writes. All figures are the largest difference, relative to the
largest value of diffusers':

    outputs     of samples of unlike sizes in one pack against diffusers' class one by one; float32
    bfloat16    the same under autocast, and how far off diffusers' own bfloat16 is; both against its float32
    gradients   of the sum of squares of the outputs: the largest over all layers (not parameters: the bias of keys has
                no gradient but rounding, as softmax takes no notice of it)
    pipeline    frames that the exported pipeline generates, against those of the imported one, from one seed
    LoRA out    outputs of the exported pipeline with the file that we write, against ours with the updates
    LoRA in     outputs of ours with the file of an adapter that was made in diffusers, against diffusers'

Exit code 1 where one is above its bound.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.machine import described
from curate.storage.tensors import write_tensors
from pipelines.drivers.train_import import import_model
from tests.support.diffusers_pipelines import RECIPES, generated, write_pipeline
from tests.train.convert.families import Case, packed_outputs
from train.convert import dit
from train.convert.diffusers_folder import to_diffusers
from train.finetune.adapt import ADAPTER, adapted_layers, add_adapter
from train.finetune.apply import apply_updates
from train.finetune.files import save, updates_of
from train.finetune.foreign import to_foreign
from train.finetune.targets import Rank
from train.model.dit import DiT
from train.run.export import export_to_diffusers

BOUNDS = {"outputs": 1e-5, "gradients": 1e-4, "pipeline": 0.0, "LoRA out": 1e-5, "LoRA in": 1e-5}
BF16_FACTOR = 1.5
RANK = 3
THEIR_TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(RECIPES)}; all of them where none is given")
    names = parser.parse_args().names or list(RECIPES)
    if unknown := set(names) - set(RECIPES):
        parser.error(f"got {', '.join(sorted(unknown))}; expected some of {', '.join(RECIPES)}")
    for library in ("diffusers", "transformers"):
        logging = import_module(f"{library}.utils.logging")
        logging.disable_progress_bar()
        logging.set_verbosity_error()
    print(described(), flush=True)
    columns = ("family", "class", "outputs", "bfloat16 (diffusers)", *list(BOUNDS)[1:])
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}", flush=True)
    good = [row(name, RECIPES[name].case) for name in names]
    sys.exit(0 if all(good) else 1)


def row(name: str, case: Case) -> bool:
    """Print the line of a family; whether every figure is within its bound, and nothing was refused."""
    with tempfile.TemporaryDirectory(prefix="families-") as temporary:
        folder = Path(temporary)
        found, half = measured(name, case, folder)
    cells = [half_cell(half) if column == "bfloat16" else cell(found[column]) for column in order()]
    print(f"| {name} | `{case.class_name}` | {' | '.join(cells)} |", flush=True)
    within = [value is not None and value <= BOUNDS[column] for column, value in found.items()]
    return all(within) and half[0] <= BF16_FACTOR * half[1]


def order() -> list[str]:
    columns = list(BOUNDS)
    return [columns[0], "bfloat16", *columns[1:]]


def cell(value: float | None) -> str:
    return "refused" if value is None else "0" if value == 0 else f"{value:.0e}"


def half_cell(half: tuple[float, float]) -> str:
    return f"{half[0]:.1e} ({half[1]:.1e})"


def measured(name: str, case: Case, folder: Path) -> tuple[dict[str, float | None], tuple[float, float]]:
    """Figures by column, and the error of bfloat16, ours and theirs."""
    source = write_pipeline(name, folder / "theirs")
    import_model(str(source), folder / "ours")
    back = export_to_diffusers(folder / "ours", folder / "back")
    theirs = case.build()
    found: dict[str, float | None] = {
        "outputs": off(outputs(opened(folder), case), asked(theirs, case)),
        "gradients": gradients(opened(folder), theirs, case),
        "pipeline": float(abs(generated(name, back) - generated(name, source)).max()),
        "LoRA out": lora_out(case, folder),
        "LoRA in": lora_in(case, folder),
    }
    return found, bfloat16(opened(folder), theirs, case)


def opened(folder: Path) -> DiT:
    return DiT.from_pretrained(folder / "ours")


def outputs(model: DiT, case: Case) -> list[Tensor]:
    return packed_outputs(model, case.samples)


def asked(model: nn.Module, case: Case, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    return [case.ask(model, one, dtype) for one in case.samples]


def off(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """The largest over pairs of tensors."""
    pairs = ((a.detach().float(), b.detach().float()) for a, b in zip(ours, theirs, strict=True))
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


def gradients(model: DiT, theirs: nn.Module, case: Case) -> float:
    """What is linear in the weights holds of their gradients: they are exported as if they were weights."""
    for found in (outputs(model, case), asked(theirs, case)):
        torch.cat([one.flatten() for one in found]).square().sum().backward()
    of_ours = {name: gradient(parameter) for name, parameter in model.named_parameters()}
    model.load_state_dict(model.state_dict() | of_ours)
    convert = to_diffusers if model.config.num_classes is None else dit.to_diffusers
    ours, reference = convert(model)[0], dict(theirs.named_parameters())
    assert ours.keys() == reference.keys(), "every parameter is compared"
    names: dict[str, list[str]] = {}
    for name in ours:
        names.setdefault(name.rpartition(".")[0], []).append(name)
    layers = [torch.cat([ours[name].flatten() for name in of_one]) for of_one in names.values()]
    expected = [torch.cat([gradient(reference[name]).flatten() for name in of_one]) for of_one in names.values()]
    return off(layers, expected)


def gradient(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None and parameter.grad.any(), "every parameter has a gradient"
    return parameter.grad


@torch.no_grad()
def bfloat16(model: DiT, theirs: nn.Module, case: Case) -> tuple[float, float]:
    exact = asked(theirs, case)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = outputs(model, case)
    return off(found, exact), off(asked(theirs.to(torch.bfloat16), case, torch.bfloat16), exact)


@torch.no_grad()
def lora_out(case: Case, folder: Path) -> float | None:
    """Our file in the exported pipeline; None: diffusers' names hold no updates of this model."""
    model = opened(folder)
    plain = outputs(model, case)
    torch.manual_seed(0)
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    targets = [
        name for name in layers if name.startswith("blocks.") and ("attention" in name or name[-6:-1] == ".mlp.")
    ]
    add_adapter(model, {name: Rank(rank=RANK, alpha=2 * RANK) for name in targets}, ADAPTER, dora=False)
    for _, layer in adapted_layers(model):
        layer.set_adapter([ADAPTER])
        for part in (layer.lora_A, layer.lora_B):
            part[ADAPTER].weight.normal_(0, 0.3)
    try:
        tensors = to_foreign(updates_of(model, {}), model, "diffusers")
    except ValueError as error:
        print(error, file=sys.stderr)
        return None
    save(folder / "lora_out.safetensors", tensors, {})
    expected = outputs(model, case)
    assert off(plain, expected) > 0.01, "the updates change the outputs"
    return off(asked(with_file(folder / "lora_out.safetensors", folder / "back"), case), expected)


def with_file(file: Path, pipeline: Path) -> nn.Module:
    """The transformer of a pipeline with updates: as the pipeline loads them, or where it cannot, as peft does."""
    import diffusers
    from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict
    from safetensors.torch import load_file

    made: Any = diffusers.DiffusionPipeline.from_pretrained(pipeline)
    if hasattr(made, "load_lora_weights"):
        made.load_lora_weights(file.parent, weight_name=file.name)
        return made.transformer
    state = {name.removeprefix("transformer."): tensor for name, tensor in load_file(file).items()}
    layers = sorted({name.partition(".lora_")[0] for name in state})
    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=layers)
    model: nn.Module = inject_adapter_in_model(config, made.transformer)
    report = set_peft_model_state_dict(model, state)
    assert not report.unexpected_keys, report.unexpected_keys
    return model


@torch.no_grad()
def lora_in(case: Case, folder: Path) -> float | None:
    """A file of an adapter that peft made in diffusers' class."""
    from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model

    theirs = case.build()
    torch.manual_seed(0)
    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=THEIR_TARGETS, init_lora_weights=False)
    theirs = inject_adapter_in_model(config, theirs)
    state: Mapping[str, Tensor] = get_peft_model_state_dict(theirs)
    file = folder / "lora_in.safetensors"
    write_tensors({f"transformer.{name}": tensor for name, tensor in state.items()}, file)
    model = opened(folder)
    plain = outputs(model, case)
    try:
        apply_updates(model, [str(file)], base="")
    except ValueError as error:
        print(error, file=sys.stderr)
        return None
    expected = asked(theirs, case)
    assert off(plain, expected) > 0.01, "the updates change the outputs"
    return off(outputs(model, case), expected)


if __name__ == "__main__":
    main()
