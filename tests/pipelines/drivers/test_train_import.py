"""`reelpack train-import` and `train-export` on a released family: trained on as it is, and given back."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from pipelines.cli import main
from tests.support.latents import smooth_clips, write_dataset
from tests.train.convert.families import PIXART, WAN
from train.model.dit_config import DiTConfig
from train.run.folder import load_model

WEIGHTS = "diffusion_pytorch_model.safetensors"


def run(*arguments: str) -> object:
    with pytest.raises(SystemExit) as done:
        main([*arguments])
    return done.value.code


def pipeline(folder: Path, text_dim: int = 12) -> Path:
    """A small Wan in bfloat16, as a pipeline of diffusers names its parts."""
    import diffusers

    torch.manual_seed(0)
    model = diffusers.WanTransformer3DModel(**WAN | {"text_dim": text_dim, "num_layers": 1})
    model.to(torch.bfloat16).save_pretrained(folder / "transformer")
    scheduler = {"_class_name": "UniPCMultistepScheduler", "flow_shift": 3.0}
    parts = {"vae": ["diffusers", "AutoencoderKLWan"], "text_encoder": ["transformers", "UMT5EncoderModel"]}
    parts["transformer"] = ["diffusers", "WanTransformer3DModel"]
    (folder / "scheduler").mkdir()
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(scheduler))
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "WanPipeline", **parts}))
    return folder


def test_a_pipeline_is_imported_trained_on_and_opened_by_diffusers(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from diffusers import WanTransformer3DModel

    source, out = pipeline(tmp_path / "wan"), tmp_path / "ours"
    assert run("train-import", str(source), "--out", str(out)) == 0
    settings = yaml.safe_load((out / "train.yaml").read_text())
    assert settings["text"] == {"model": str(source), "subfolder": "text_encoder", "max_tokens": 512}
    assert settings["encode"]["autoencoder"] == {"kind": "diffusers", "path": str(source), "subfolder": "vae"}
    assert settings["train"]["objective"]["kind"] == "flow" and settings["train"]["objective"]["shift"] == 3.0

    dataset = write_dataset(tmp_path / "dataset", smooth_clips(8, num_val=2))
    few = ["train.steps=2", "train.device=cpu", "train.data.plan.token_budget=128", "train.optimizer.warmup_steps=0"]
    settings_of_run = [part for one in few for part in ("--set", one)]
    trained = tmp_path / "run"
    given = ["--config", str(out / "train.yaml"), *settings_of_run]
    _check_other_encoders_are_refused(dataset, given, capsys)
    assert run("train", str(dataset), "--out", str(trained), *given) == 0
    for name, last in (("ours", []), ("run", ["--last"])):
        target = tmp_path / f"{name}-back/transformer"
        assert (
            run(
                "train-export",
                str(tmp_path / name),
                "--out",
                str(target),
                "--to",
                "diffusers",
                "--pipeline",
                "none",
                *last,
            )
            == 0
        )
        _, report = WanTransformer3DModel.from_pretrained(target, output_loading_info=True)
        assert not report["missing_keys"] and not report["unexpected_keys"]
    there, back, after = (
        load_file(folder / "transformer" / WEIGHTS)
        for folder in (source, tmp_path / "ours-back", tmp_path / "run-back")
    )
    assert all(torch.equal(back[name], tensor) and back[name].dtype is tensor.dtype for name, tensor in there.items())
    moved = [name for name in there if not torch.equal(after[name], there[name].float())]
    assert len(moved) > 20 and all((after[name] - there[name].float()).abs().max() < 1e-3 for name in moved)


def _check_other_encoders_are_refused(dataset: Path, given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The dataset's notes say, for a moment, that latents and captions are of others."""
    files = [dataset / "latents/lat0/fingerprint.json", dataset / "text/txt0/fingerprint.json"]
    notes = [file.read_text() for file in files]
    others = {"autoencoder": {"kind": "reelpack"}}, {"model": "google/t5", "padding": "stored"}
    for file, note, config in zip(files, notes, others, strict=True):
        file.write_text(json.dumps(json.loads(note) | {"config": config}))
    out = dataset.parent / "refused"
    assert run("train", str(dataset), "--out", str(out), *given) == 2
    assert "wan/vae, and the dataset has those of reelpack" in " ".join(capsys.readouterr().err.split())
    assert run("train", str(dataset), "--out", str(out), *given, "--set", "train.init_latents=other") == 2
    assert "of text.padding=none, and the dataset has stored. Enc" in " ".join(capsys.readouterr().err.split())
    for file, note in zip(files, notes, strict=True):
        file.write_text(note)


def test_what_does_not_fit_is_refused_with_both_sides(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = pipeline(tmp_path / "wan", text_dim=20)
    assert (
        run("train-import", str(source), "--out", str(tmp_path / "x"), "--pattern", "factorized_self_attention") == 2
    )
    assert "make a video model of an image model, and a WanTransformer3DModel is one of videos" in " ".join(
        capsys.readouterr().err.split()
    )
    assert run("train-import", str(source), "--out", str(tmp_path / "ours")) == 0
    dataset = write_dataset(tmp_path / "dataset", smooth_clips(8, num_val=2))
    given = ["--config", str(tmp_path / "ours/train.yaml"), "--set", "train.device=cpu"]
    assert run("train", str(dataset), "--out", str(tmp_path / "run"), *given) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "reads captions as states of 20 features, the dataset has those of 12" in told
    config = source / "transformer/config.json"
    config.write_text(config.read_text().replace("WanTransformer3DModel", "FluxTransformer2DModel"))
    assert run("train-import", str(source), "--out", str(tmp_path / "x")) == 2
    assert "got a FluxTransformer2DModel; expected one of WanTransformer3DModel" in capsys.readouterr().err


def test_an_image_model_of_diffusers_becomes_one_of_videos_that_is_trained(tmp_path: Path):
    """One command; then videos without captions beside captioned images, by the new layers alone."""
    import diffusers

    torch.manual_seed(0)
    source = tmp_path / "pixart"
    diffusers.PixArtTransformer2DModel(**PIXART | {"caption_channels": 12}).save_pretrained(source)
    out, again = tmp_path / "video", tmp_path / "again"
    assert run("train-import", str(source), "--out", str(out), "--temporal", "both", "--frames-per-patch", "2") == 0
    assert run("train-import", str(source), "--out", str(tmp_path / "images")) == 0
    inflating = ("--temporal", "both", "--frames-per-patch", "2")
    assert run("train-import", str(tmp_path / "images"), "--out", str(again), *inflating) == 0
    one, other = (load_file(folder / "model.safetensors") for folder in (out, again))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    settings = yaml.safe_load((out / "train.yaml").read_text())["train"]
    assert (settings["model"]["temporal"], settings["model"]["mixer"]["pattern"]) == ("both", "spatial")

    clips = smooth_clips(18, num_val=3)
    images = write_dataset(tmp_path / "images_of", [clip for clip in clips if clip.latent.shape[1] == 1])
    bare = [replace(clip, short=None, dense=None) for clip in clips if clip.latent.shape[1] > 1]
    videos = write_dataset(tmp_path / "videos_of", bare)
    shutil.rmtree(videos / "text")
    few = ["train.steps=2", "train.device=cpu", "train.data.plan.token_budget=128", "train.optimizer.warmup_steps=0"]
    few += ["train.data.uncaptioned=allow", "train.trainable=[blocks.*.temporal*]", "train.data.text=txt0"]
    given = ["--config", str(out / "train.yaml"), *(part for one in few for part in ("--set", one))]
    assert run("train", str(images), str(videos), "--out", str(tmp_path / "run"), *given) == 0
    shown = json.loads((tmp_path / "run/blend.json").read_text())["clips"]
    assert shown["video"][0] == 0 < shown["video"][1] and 0 < shown["image"][0] <= shown["image"][1]
    after = load_model(tmp_path / "run", weights="model")[0].state_dict()
    assert {name for name in one if not torch.equal(after[name], one[name])} <= {n for n in one if ".temporal." in n}
    gate = "blocks.0.temporal.attention.modulation.linear.weight"
    assert not one[gate].any() and after[gate].any()


def test_what_a_model_of_ours_cannot_become_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model = DiTConfig(width=24, depth=1, num_heads=2).build(channels=4, text_dim=12)
    model.save_pretrained(tmp_path / "model", objective={"kind": "flow"})
    for given, told in (
        ([], "is a model of reelpack, which train.init takes as it is; give --temporal"),
        (["--pattern", "factorised_temporal"], "--pattern factorised_temporal: under it an image's patches"),
        (["--temporal", "both", "--num-heads", "2"], "--num-heads is for a file of weights"),
    ):
        assert run("train-import", str(tmp_path / "model"), "--out", str(tmp_path / "out"), *given) == 2
        assert told in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()
