"""Fine-tuned runs: what they save, how they resume, what they export, and what they refuse before the first step."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint import FileSystemReader

from tests.train.test_loop import config, logged
from train.loop import train
from train.model.base import Denoiser
from train.run.config import TrainConfig
from train.run.export import export_run, export_updates
from train.run.folder import load_model
from train.sampling.config import SampleConfig
from train.sampling.loaded import LoadedRun

QUIET = {"evaluate__held_out__every": 0, "evaluate__captions__every": 0}
LORA = {"kind": "lora", "rank": 4, "targets": {"blocks.*attention*": {}, "blocks.*.mlp.*": {"rank": 2, "alpha": 4}}}
EVERYTHING = {"finetune": LORA | {"dropout": 0.3}, "trainable": ["*.bias"], "optimizer__kind": "muon"}


@pytest.fixture(scope="module")
def base(dataset: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, and beside it the model that was exported from it."""
    out = tmp_path_factory.mktemp("base")
    train(config(steps=4, **QUIET), dataset, out / "run")
    return export_run(out / "run", out / "model")


@pytest.fixture(scope="module")
def run(dataset: str, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with updates, biases, dropout and Muon, in one piece."""
    out = tmp_path_factory.mktemp("tuned") / "run"
    train(tuned(base, **EVERYTHING), dataset, out)
    return out


def tuned(base: Path, **changes: Any) -> TrainConfig:
    settings = {"steps": 4, "optimizer__schedule": "constant", "optimizer__warmup_steps": 0, "checkpoint__every": 2}
    return config(**{"init": str(base), "finetune": LORA} | settings | QUIET | changes)


def losses_of(out: Path) -> list[float]:
    return [row["loss"] for row in logged(out) if "loss" in row]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def in_checkpoint(out: Path, part: str) -> set[str]:
    names = FileSystemReader(out / "checkpoints/step-000004").read_metadata().state_dict_metadata
    return {name.removeprefix(f"{part}.") for name in names if name.startswith(f"{part}.")}


def test_a_run_in_parts_is_the_whole_run_also_when_its_base_has_moved(
    dataset: str, base: Path, run: Path, tmp_path: Path
):
    train(tuned(base, **EVERYTHING, steps=2), dataset, tmp_path / "parts")
    moved = Path(shutil.copytree(base, tmp_path / "moved"))
    train(tuned(moved, **EVERYTHING), dataset, tmp_path / "parts")
    assert losses_of(tmp_path / "parts") == losses_of(run)
    assert same(*(load_model(out, weights="model")[0].state_dict() for out in (tmp_path / "parts", run)))


def test_checkpoints_have_what_trains_and_nothing_of_the_base(run: Path, base: Path):
    model, _, _ = load_model(run, weights="model")
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert in_checkpoint(run, "model") == in_checkpoint(run, "ema") == trained
    assert {name.rpartition(".")[2] for name in trained if ".lora_" not in name} == {"bias"}
    before = Denoiser.from_pretrained(base).state_dict()
    now = {name.replace(".base_layer.", "."): value for name, value in model.state_dict().items()}
    changed = {name for name in before if not torch.equal(before[name], now[name])}
    assert changed and changed <= {name for name in before if name.endswith(".bias")}
    ups = [value for name, value in now.items() if ".lora_B." in name]
    assert ups and all(value.any() for value in ups)


def test_updates_of_a_file_on_the_base_are_the_run_s_own_model(run: Path, base: Path, tmp_path: Path):
    file = export_updates(run, tmp_path / "updates.safetensors")
    own = load_model(run)[0]
    applied = LoadedRun(base.parent / "run", SampleConfig(device="cpu", lora=(str(file),)))
    assert same(*(named_plainly(model) for model in (own, applied.model)))

    merged = Denoiser.from_pretrained(export_run(run, tmp_path / "merged", merges=True)).state_dict()
    expected = LoadedRun(run, SampleConfig(device="cpu")).model
    for name, layer in expected.named_modules():
        if hasattr(layer, "lora_A"):
            update = layer.lora_B["default"].weight @ layer.lora_A["default"].weight * layer.scaling["default"]
            torch.testing.assert_close(merged[f"{name}.weight"], layer.base_layer.weight + update)

    weak = LoadedRun(base.parent / "run", SampleConfig(device="cpu", lora=(f"{file}:0.25", f"{file}:0.5"))).model
    layers = {name: layer for name, layer in weak.named_modules() if hasattr(layer, "lora_A")}
    x = torch.randn(3, 5, 32, generator=torch.Generator().manual_seed(0))
    for name, layer in layers.items():
        if layer.in_features == 32:
            whole = applied.model.get_submodule(name)
            change = whole(x) - whole.base_layer(x)
            torch.testing.assert_close(layer(x), layer.base_layer(x) + 0.75 * change, atol=1e-5, rtol=1e-4)


def named_plainly(model: Denoiser) -> dict[str, torch.Tensor]:
    """Without the names of adapters."""
    return {name.replace(".default.", ".").replace(".file0.", "."): v for name, v in model.state_dict().items()}


def test_updates_of_another_base_are_refused_with_both_fingerprints(run: Path, dataset: str, tmp_path: Path):
    file = export_updates(run, tmp_path / "updates.safetensors")
    train(config(steps=1, seed=5, **QUIET), dataset, tmp_path / "other")
    with pytest.raises(ValueError, match=r"adapts a model of fingerprint \w{12} .* and this run's is \w{12}"):
        LoadedRun(tmp_path / "other", SampleConfig(device="cpu", lora=(str(file),)))


def test_a_base_that_is_gone_or_another_is_named(dataset: str, base: Path, run: Path, tmp_path: Path):
    other = tmp_path / "other"
    Denoiser.from_pretrained(base).apply(zero_biases).save_pretrained(other)
    with pytest.raises(ValueError, match=r"adapts a base of fingerprint \w{12} .* has \w{12}; set train.init"):
        train(tuned(other, **EVERYTHING), dataset, run)
    moved = Path(shutil.copytree(run, tmp_path / "run"))
    record = (moved / "run.json").read_text()
    (moved / "run.json").write_text(record.replace(str(base), str(tmp_path / "gone")))
    settings = (moved / "config.yaml").read_text()
    (moved / "config.yaml").write_text(settings.replace(str(base), str(other)))
    with pytest.raises(ValueError, match=r"gone is not there; .*other has \w{12}\); put it back, or put a link"):
        load_model(moved)
    (moved / "base").symlink_to(base)
    assert same(load_model(moved)[0].state_dict(), load_model(run)[0].state_dict())


def zero_biases(module: torch.nn.Module) -> None:
    if isinstance(module, torch.nn.Linear) and module.bias is not None:
        module.bias.data.add_(1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"init": None}, "random weights would be frozen"),
        ({"init": None, "finetune": {"kind": "full"}, "trainable": ["*.bias"]}, "trainable is set, and init is none"),
        ({"finetune": {"kind": "lora", "dora": True, "dropout": 0.1}}, "set one of them"),
        ({"finetune": {"kind": "full", "frozen_dtype": "bfloat16"}}, "nothing is frozen"),
        ({"finetune": LORA | {"frozen_dtype": "bfloat16"}, "dtype": "float32"}, "Set dtype to bfloat16"),
        ({"finetune": LORA | {"frozen_dtype": "bfloat16"}}, "is float32 on this device"),
        (
            {"finetune": LORA | {"targets": "blocks.*.to_qkv"}},
            "blocks.*.to_qkv matches no linear layer of the model; it",
        ),
        ({"finetune": LORA | {"targets": ["*attention*", "*.to_q"]}}, "every layer of *.to_q is of a glob before it"),
        ({"finetune": LORA | {"targets": {"*.to_q": 33}}}, "to_q (rank 33, 32 to 32)"),
        ({"trainable": ["*.biases"]}, "*.biases matches no parameter of the model; it has"),
        ({"optimizer__kind": "adamw_8bit", "parallel__mode": "fsdp"}, "knows no sharded parameters"),
        ({"optimizer__kind": "paged_adamw_8bit"}, "set train.optimizer.kind=adamw"),
    ],
)
def test_what_cannot_be_is_refused_before_the_first_step(
    dataset: str, base: Path, tmp_path: Path, changes: dict[str, Any], message: str
):
    with pytest.raises(ValueError) as caught:
        train(tuned(base, **changes), dataset, tmp_path / "run")
    assert message in str(caught.value)
    assert not (tmp_path / "run/metrics.jsonl").exists()


def test_a_continued_run_keeps_its_kind_of_optimizer(dataset: str, base: Path, run: Path):
    with pytest.raises(ValueError, match=r"optimizer\.kind: 'muon' → 'adamw'"):
        train(tuned(base, **EVERYTHING | {"optimizer__kind": "adamw"}), dataset, run)


def test_a_run_without_updates_has_none_to_export(base: Path, run: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="has no low-rank updates"):
        export_updates(base.parent / "run", tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="--merge adds them to the weights"):
        export_run(run, tmp_path / "model")
    with pytest.raises(ValueError, match="leave --merge out"):
        export_run(base.parent / "run", tmp_path / "model", merges=True)
