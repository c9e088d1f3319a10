"""The commands around training, as they are typed."""

from pathlib import Path

import pytest
import torch
import yaml

from curate.encoders import torchvision_cpu
from curate.report.run import build_run_report
from pipelines.cli import main
from pipelines.config import Config
from pipelines.drivers.train import train_as_worker
from tests.support.latents import smooth_clips, write_dataset
from train.convert.dit import read_checkpoint
from train.model.dit import DiT
from train.model.dit_config import DiTConfig
from train.packing.batch import Sample, pack
from train.run.folder import load_model


def run(*arguments: str) -> object:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    return stopped.value.code


def published_dit(folder: Path, **changes: int) -> Path:
    """A small DiT as diffusers saves it."""
    torchvision_cpu.repair()
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    shape = {"num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 2, "num_embeds_ada_norm": 10}
    published = diffusers.DiTTransformer2DModel(**shape, in_channels=4, sample_size=8, **changes)
    published.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("num_val", [0, 2])
def test_a_run_ends_with_a_report_of_all_its_steps(tmp_path: Path, num_val: int) -> None:
    dataset = write_dataset(tmp_path / "dataset", smooth_clips(8, num_val=num_val))
    settings = {"steps": 5, "model": {"width": 32, "depth": 1, "num_heads": 2}, "evaluate": {"held_out": {"every": 2}}}
    train_as_worker(str(dataset), str(tmp_path / "run"), Config.model_validate({"train": settings}))
    assert (tmp_path / "run/prompt_examples.json").is_file()
    build = (tmp_path / "run/report.html").read_text()
    assert build == Path(build_run_report(str(tmp_path / "run"))).read_text()


def test_an_imported_model_is_trained_on_with_the_configuration_beside_it(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", smooth_clips(12, num_val=2))
    published = published_dit(tmp_path / "published", out_channels=8)  # with learned variances
    assert run("train-import", str(published), "--out", str(tmp_path / "dit")) == 0
    configured = ["--config", str(tmp_path / "dit/train.yaml"), "--set", "train.optimizer.lr=1e-30"]
    small = ["--set", "train.steps=1", "--set", "train.device=cpu", "--set", "train.data.plan.token_budget=128"]
    more = ["--set", "train.model.text=cross_attention", "--set", "train.model.condition_on_fps=true"]
    for name, extra in (("run", []), ("captioned", more)):
        assert run("train", str(dataset), "--out", str(tmp_path / name), *configured, *small, *extra) == 0
        trained, imported = load_model(tmp_path / name, weights="model")[0], DiT.from_pretrained(tmp_path / "dit")
        state = trained.state_dict()
        assert all(torch.equal(state[key], tensor) for key, tensor in imported.state_dict().items())
        batch = pack(ragged(), (1, 2, 2), 12)
        outputs = [model(batch.tokens, batch.timesteps, batch) for model in (trained, imported)]
        assert outputs[0].abs().max() > 0
        torch.testing.assert_close(*outputs)
    assert (
        run(
            "train",
            str(dataset),
            "--out",
            str(tmp_path / "other"),
            *configured,
            *small,
            "--set",
            "train.model.width=64",
        )
        == 2
    )


@pytest.mark.parametrize("pattern", ["joint", "factorized_self_attention"])
def test_an_image_model_is_imported_with_attention_along_time(tmp_path: Path, pattern: str) -> None:
    published = published_dit(tmp_path / "published")
    out = tmp_path / "dit"
    assert run("train-import", str(published), "--out", str(out), "--pattern", pattern) == 0
    begun = yaml.safe_load((out / "train.yaml").read_text())["train"]["model"]["mixer"]["pattern"]
    model = DiT.from_pretrained(out)
    assert begun == model.config.mixer.pattern == pattern
    images = [sample for sample in ragged() if sample.latent.shape[1] == 1]
    batch = pack(images, (1, 2, 2), 12)
    image_model = read_checkpoint(published)
    with torch.no_grad():
        torch.testing.assert_close(*(m(batch.tokens, batch.timesteps, batch) for m in (model, image_model)))


@pytest.mark.parametrize(("tubelet", "code"), [("central", 0), ("uniform", 0), ("last", 2)])
def test_an_image_model_is_inflated_to_tubelets_as_told(tmp_path: Path, tubelet: str, code: int) -> None:
    published, out = published_dit(tmp_path / "published"), tmp_path / "dit"
    inflated = ["--frames-per-patch", "2", "--tubelet", tubelet]
    assert run("train-import", str(published), "--out", str(out), *inflated) == code
    if code == 0:
        first, second = DiT.from_pretrained(out).embed.weight.detach().unflatten(1, (4, 2, 2, 2)).unbind(2)
        assert torch.equal(first, second) is (tubelet == "uniform") and second.abs().max() > 0


def test_a_pattern_that_changes_what_images_give_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published = published_dit(tmp_path / "published")
    assert run("train-import", str(published), "--out", str(tmp_path / "dit"), "--pattern", "alternating") == 2
    assert "factorized_self_attention" in capsys.readouterr().err


def ragged() -> list[Sample]:
    generator = torch.Generator().manual_seed(0)
    return [
        Sample(
            clip_id=str(i),
            latent=torch.randn(4, *shape, generator=generator),
            noise=torch.zeros(4, *shape),
            timestep=0.3 * (i + 1),
            fps=24.0,
            text=torch.randn(3, 12, generator=generator),
            label=i,
        )
        for i, shape in enumerate([(3, 4, 6), (1, 4, 4)])
    ]


def test_a_published_checkpoint_becomes_a_folder_that_gives_the_same_model(tmp_path: Path) -> None:
    published = published_dit(tmp_path / "published")
    assert run("train-import", str(published), "--out", str(tmp_path / "ours")) == 0
    model = DiT.from_pretrained(tmp_path / "ours")
    assert isinstance(model.config, DiTConfig)
    assert model.config.width == 32 and model.config.depth == 2


def test_a_checkpoint_that_is_not_there_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train-import", str(tmp_path / "DiT.pt"), "--out", str(tmp_path / "ours")) == 2
    assert "no such file" in capsys.readouterr().err
    assert run("train-export", str(tmp_path), "--out", str(tmp_path / "x")) == 2
    assert run("train-plan", str(tmp_path)) == 2
