"""The commands around training, as they are typed."""

from pathlib import Path

import pytest
import torch

from curate.encoders import torchvision_cpu
from pipelines.cli import main
from train.model.config import DiTConfig
from train.model.dit import DiT


def run(*arguments: str) -> object:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    return stopped.value.code


def test_a_published_checkpoint_becomes_a_folder_that_gives_the_same_model(tmp_path: Path) -> None:
    torchvision_cpu.repair()
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    published = diffusers.DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        num_layers=2,
        sample_size=8,
        num_embeds_ada_norm=10,
    )
    published.save_pretrained(tmp_path / "published")
    assert run("train-import", str(tmp_path / "published"), "--out", str(tmp_path / "ours")) == 0
    model = DiT.from_pretrained(tmp_path / "ours")
    assert isinstance(model.config, DiTConfig)
    assert model.config.width == 32 and model.config.depth == 2


def test_a_checkpoint_that_is_not_there_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train-import", str(tmp_path / "DiT.pt"), "--out", str(tmp_path / "ours")) == 2
    assert "no such file" in capsys.readouterr().err
    assert run("train-export", str(tmp_path), "--out", str(tmp_path / "x")) == 2
    assert run("train-plan", str(tmp_path)) == 2
