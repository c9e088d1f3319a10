"""Files of LoRA by other names: diffusers has the outputs of our updates, and they come back."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.train.convert.families import CASES, DIT, Case, packed_outputs, read
from train.convert.dit import read_checkpoint
from train.finetune.adapt import ADAPTER, adapted_layers, add_adapter
from train.finetune.apply import apply_updates
from train.finetune.files import read_updates, save, updates_of
from train.finetune.foreign import Layout, from_foreign, to_foreign
from train.finetune.targets import Rank
from train.model.dit import DiT


def opened(case: Case, folder: Path) -> DiT:
    if not folder.exists():
        case.build().save_pretrained(folder)
    return read_checkpoint(folder) if case is DIT else read(folder)[0].model


def adapted(case: Case, folder: Path, *, dora: bool = False, extra: tuple[str, ...] = ()) -> DiT:
    """The model with random updates, whose alpha is not the rank."""
    model = opened(case, folder)
    names = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    targets = [name for name in names if name.startswith("blocks.") and ("attention" in name or ".mlp." in name)]
    add_adapter(model, {name: Rank(rank=3, alpha=6) for name in (*targets, *extra)}, ADAPTER, dora=dora)
    generator = torch.Generator().manual_seed(1)
    for _, layer in adapted_layers(model):
        layer.set_adapter([ADAPTER])
        for part in (layer.lora_A, layer.lora_B):
            weight = part[ADAPTER].weight
            weight.data = 0.3 * torch.randn(weight.shape, generator=generator)
    return model.requires_grad_(False)


def theirs(case: Case, tensors: dict[str, Tensor]) -> Tensor:
    """Outputs of diffusers' class with a file's tensors."""
    model: Any = case.build()
    model.load_lora_adapter(dict(tensors), prefix="transformer")
    return torch.cat([case.ask(model, one, torch.float32).flatten() for one in case.samples])


def outputs(model: DiT, case: Case) -> Tensor:
    return torch.cat([x.flatten() for x in packed_outputs(model, case.samples)])


@torch.no_grad()
def test_diffusers_with_the_file_has_the_outputs_of_the_updates(tmp_path: Path) -> None:
    case = CASES["wan"]
    model = adapted(case, tmp_path / "model")
    tensors = to_foreign(updates_of(model, {}), model, "diffusers")
    expected = outputs(model, case)
    assert (theirs(case, tensors) - expected).abs().max() < 1e-5 * expected.abs().max()


@torch.no_grad()
def test_a_file_of_another_trainer_has_an_a_of_its_own_for_keys_and_values(tmp_path: Path) -> None:
    case = CASES["wan"]
    model = adapted(case, tmp_path / "model")
    tensors = to_foreign(updates_of(model, {}), model, "diffusers")
    for name, tensor in tensors.items():
        if name.endswith("to_v.lora_A.weight"):
            tensor.copy_(tensor.flip(1))
    tensors = {name: tensor for name, tensor in tensors.items() if "blocks.1.attn1.to_k" not in name}
    save(tmp_path / "lora.safetensors", tensors, {})
    plain = opened(case, tmp_path / "model")
    apply_updates(plain, [str(tmp_path / "lora.safetensors")], base="")
    expected = theirs(case, tensors)
    assert (outputs(plain, case) - expected).abs().max() < 1e-5 * expected.abs().max()


def test_comfyui_has_the_published_names(tmp_path: Path) -> None:
    model = adapted(CASES["wan"], tmp_path / "model")
    layers = {name.rpartition(".lora")[0] for name in to_foreign(updates_of(model, {}), model, "comfyui")}
    parts = [f"{a}_attn.{x}" for a in ("self", "cross") for x in "qkvo"] + ["ffn.0", "ffn.2"]
    assert layers == {f"diffusion_model.blocks.{i}.{part}" for i in range(2) for part in parts}


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "layout", "dora"),
    [
        ("wan", "comfyui", False),
        ("wan", "diffusers", True),
        ("pixart-sigma", "diffusers", False),
        ("latte", "diffusers", False),
        ("ltx", "comfyui", False),
        ("ltx", "diffusers", False),
        ("dit", "diffusers", False),
    ],
)
def test_what_was_written_comes_back(name: str, layout: Layout, dora: bool, tmp_path: Path) -> None:
    case = (CASES | {"dit": DIT})[name]
    model, plain = adapted(case, tmp_path / "model", dora=dora), opened(case, tmp_path / "model")
    expected = outputs(model, case)
    assert (outputs(plain, case) - expected).abs().max() > 0.01 * expected.abs().max()
    save(tmp_path / "lora.safetensors", to_foreign(updates_of(model, {}), model, layout), {})
    apply_updates(plain, [str(tmp_path / "lora.safetensors")], base="")
    assert (outputs(plain, case) - expected).abs().max() < 1e-5 * expected.abs().max()


def test_what_a_file_cannot_hold_is_refused(tmp_path: Path) -> None:
    case = CASES["wan"]
    model = adapted(case, tmp_path / "model", extra=("embed",))
    with pytest.raises(ValueError, match=r"embed is arranged otherwise in patch_embedding\.weight \(patches"):
        to_foreign(updates_of(model, {}), model, "diffusers")
    updates = updates_of(adapted(case, tmp_path / "model"), {})
    for layer in ("x", "patch_embedding"):
        tensors = {f"transformer.{layer}.lora_{ab}.weight": torch.zeros(1, 1) for ab in "AB"}
        save(tmp_path / "lora.safetensors", tensors, {})
        with pytest.raises(ValueError, match=f"updates of {layer} cannot be taken: a Wan.* has no such"):
            from_foreign(read_updates(tmp_path / "lora.safetensors"), model)
    native = DiT(model.config.model_copy(update={"conditions": ("motion",)}), channels=4, text_dim=20)
    with pytest.raises(ValueError, match="no class of diffusers has the outputs of this model"):
        to_foreign(updates, native, "diffusers")
    of_labels = adapted(DIT, tmp_path / "dit", extra=("final.linear",))
    with pytest.raises(ValueError, match=r"final\.linear has no one counterpart in a DiTTransformer2DModel; leave it"):
        to_foreign(updates_of(of_labels, {}), of_labels, "diffusers")
    pixart = adapted(CASES["pixart-sigma"], tmp_path / "pixart")
    with pytest.raises(ValueError, match=r"names that ComfyUI has for a PixArt.* are not known"):
        to_foreign(updates_of(pixart, {}), pixart, "comfyui")


def test_a_file_without_a_tensor_is_no_file_of_updates(tmp_path: Path) -> None:
    save(tmp_path / "x.safetensors", {}, {})
    with pytest.raises(ValueError, match="holds no tensor; fetch or export"):
        read_updates(tmp_path / "x.safetensors")
