import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from train.loop import train
from train.model.dit import DiT
from train.packing.batch import Sample, pack
from train.run.config import TrainConfig
from train.run.export import export_run
from train.run.folder import checkpoint_steps, load_model, read_run

SETTINGS = {
    "steps": 3,
    "device": "cpu",
    "model": {"width": 32, "depth": 2, "num_heads": 2, "mixer": {"pattern": "alternating"}},
    "data": {"plan": {"token_budget": 64, "packs_per_step": 1}},
}


def test_an_exported_run_gives_the_outputs_of_its_checkpoint(dataset: str, tmp_path: Path, samples: list[Sample]):
    train(TrainConfig.model_validate(SETTINGS), dataset, tmp_path / "run")
    batch = pack(samples, (1, 2, 2), 12)
    for weights in ("ema", "model"):
        out = export_run(tmp_path / "run", tmp_path / weights, weights=weights)
        exported, (trained, config, record) = DiT.from_pretrained(out), load_model(tmp_path / "run", weights=weights)
        assert trained(batch.tokens, batch.timesteps, batch).abs().max() > 0
        outputs = [model(batch.tokens, batch.timesteps, batch) for model in (exported, trained)]
        assert torch.equal(*outputs) and not exported.training
        written = json.loads((out / "config.json").read_text())
        assert written["latents"] == record.latents and written["text"] == record.text
        assert written["objective"]["kind"] == config.objective.kind
    models = [load_file(tmp_path / weights / "model.safetensors") for weights in ("ema", "model")]
    assert any(not torch.equal(models[0][name], models[1][name]) for name in models[0])
    export_run(tmp_path / "run", tmp_path / "ema")  # again, into the same folder
    with pytest.raises(ValueError, match=r"holds blend\.json, checkpoints, config\.yaml"):
        export_run(tmp_path / "run", tmp_path / "run")


def test_an_exported_folder_is_read_as_its_run(dataset: str, tmp_path: Path):
    run, out = tmp_path / "run", tmp_path / "out"
    train(TrainConfig.model_validate(SETTINGS), dataset, run)
    export_run(run, out)
    assert read_run(out) == read_run(run)
    assert checkpoint_steps(out) == [3]
    model, config, record = load_model(out, step=3)
    trained, *known = load_model(run)
    assert [config, record] == known
    assert all(torch.equal(model.state_dict()[name], value) for name, value in trained.state_dict().items())
    with pytest.raises(ValueError, match="got step 2, and there are checkpoints after 3"):
        load_model(out, step=2)
    with pytest.raises(ValueError, match=r"got sample\.weights=model, and ema were exported"):
        load_model(out, weights="model")
    entries = json.loads((out / "config.json").read_text())
    del entries["train"]
    (out / "config.json").write_text(json.dumps(entries))
    with pytest.raises(ValueError, match="a model without the settings of its training"):
        read_run(out)


def test_half_precision_halves_the_file_and_is_read_as_float32(dataset: str, tmp_path: Path):
    train(TrainConfig.model_validate(SETTINGS), dataset, tmp_path / "run")
    full, half = (export_run(tmp_path / "run", tmp_path / dtype, dtype=dtype) for dtype in ("float32", "bfloat16"))
    assert {value.dtype for value in load_file(half / "model.safetensors").values()} == {torch.bfloat16}
    read = DiT.from_pretrained(half).state_dict()
    for name, value in DiT.from_pretrained(full).state_dict().items():
        assert read[name].dtype == value.dtype
        assert torch.equal(read[name], value.bfloat16().float())


def test_an_exported_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    synchronized, fsync = set[int](), os.fsync
    published: list[str] = []

    def watched(descriptor: int) -> None:
        synchronized.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def renamed(path: Path, target: Path) -> None:
        assert path.stat().st_ino in synchronized
        published.append(target.name)
        os.rename(path, target)

    monkeypatch.setattr(os, "fsync", watched)
    monkeypatch.setattr(Path, "rename", renamed)
    monkeypatch.setattr(Path, "replace", renamed)
    DiT(TrainConfig.model_validate(SETTINGS).model, channels=4, text_dim=12).save_pretrained(tmp_path / "model")
    assert published == ["model.safetensors", "config.json"]
    assert (tmp_path / "model").stat().st_ino in synchronized


def test_folders_without_a_whole_model_are_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"cannot load a model .*config\.json"):
        DiT.from_pretrained(tmp_path)
    DiT(TrainConfig.model_validate(SETTINGS).model, channels=4, text_dim=12).save_pretrained(tmp_path)
    DiT.from_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    state.pop("embed.weight")
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"(?s)cannot load a model .*embed\.weight"):
        DiT.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"cut short")
    with pytest.raises(ValueError, match="cannot load a model"):
        DiT.from_pretrained(tmp_path)
