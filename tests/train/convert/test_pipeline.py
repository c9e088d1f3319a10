"""An exported model lies in the pipeline that it was imported from, which generates what it did before."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipelines.cli import main
from pipelines.drivers.train_import import import_model
from tests.support.diffusers_pipelines import RECIPES, generated, write_pipeline
from train.convert.pipeline import released
from train.convert.source import find
from train.model.base import Denoiser
from train.run.export import export_to_diffusers


@pytest.fixture(scope="module")
def wan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline, and beside it the folder that is imported of it."""
    root = tmp_path_factory.mktemp("wan")
    import_model(str(write_pipeline("wan", root / "theirs")), root / "ours")
    return root


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What `train-export` says on standard error."""
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["train-export", *arguments, "--to", "diffusers"])
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    "name", [name for name in RECIPES if name not in ("wan-2.1-flf2v", "wan-2.2-ti2v", "sana-1.5")]
)
def test_the_exported_pipeline_generates_what_the_imported_one_does(name: str, tmp_path: Path):
    source = write_pipeline(name, tmp_path / "theirs")
    import_model(str(source), tmp_path / "ours")
    back = export_to_diffusers(tmp_path / "ours", tmp_path / "back")
    np.testing.assert_array_equal(generated(name, back), generated(name, source))
    one, other = (
        {str(path.relative_to(root)): json.loads(path.read_text()) for path in root.rglob("*.json")}
        for root in (source, back)
    )
    assert one == other
    import_model(str(source / "transformer"), tmp_path / "again")  # the folder in its pipeline
    assert released(tmp_path / "again") == released(tmp_path / "ours")


def test_a_trained_model_is_what_the_pipeline_has(wan: Path, tmp_path: Path):
    """Through a run that began with the import, and a folder that the run was exported to."""
    model = Denoiser.from_pretrained(wan / "ours")
    model.final.linear.bias.data += 0.5
    about = json.loads((wan / "ours/config.json").read_text())
    model.save_pretrained(tmp_path / "exported", train={"init": str(tmp_path / "run")})
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text(yaml.safe_dump({"init": str(wan / "ours")}))
    assert released(tmp_path / "exported") == released(wan / "ours")
    out = export_to_diffusers(tmp_path / "exported", tmp_path / "tuned", dtype="bfloat16", links=True)
    assert abs(generated("wan", out) - generated("wan", wan / "theirs")).max() > 0.01
    assert (out / "vae").resolve() == wan / "theirs/vae" and not (out / "transformer").is_symlink()
    again = find(str(out))
    assert again is not None and again.config == about["released"]["config"]


def test_another_size_is_described_by_its_own_settings(wan: Path, tmp_path: Path):
    """A model of fewer blocks, in the pipeline whose autoencoder and text encoder it was trained with."""
    entries = json.loads((wan / "ours/config.json").read_text())["model"] | {"depth": 1}
    small = type(Denoiser.from_pretrained(wan / "ours").config).model_validate(entries).build(channels=4, text_dim=20)
    small.save_pretrained(tmp_path / "small")
    out = export_to_diffusers(tmp_path / "small", tmp_path / "out", pipeline=str(wan / "theirs"))
    assert json.loads((out / "transformer/config.json").read_text())["num_layers"] == 1
    assert generated("wan", out).std() > 0


def test_what_is_alone_says_what_it_lacks(wan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    shutil.copytree(wan / "theirs/transformer", tmp_path / "transformer")
    import_model(str(tmp_path / "transformer"), tmp_path / "ours")
    out = tmp_path / "alone"
    said = told(capsys, str(tmp_path / "ours"), "--out", str(out))
    assert "holds the transformer alone" in said and "With --pipeline FOLDER_OR_HUB_ID its text encoder" in said
    assert {path.name for path in out.iterdir()} == {"config.json", "diffusion_pytorch_model.safetensors"}
    given = [str(tmp_path / "ours"), "--out", str(tmp_path / "whole"), "--pipeline", str(wan / "theirs")]
    assert told(capsys, *given) == ""
    np.testing.assert_array_equal(generated("wan", tmp_path / "whole"), generated("wan", wan / "theirs"))
    assert told(capsys, str(wan / "ours"), "--out", str(tmp_path / "bare"), "--pipeline", "none") == ""
    assert not (tmp_path / "bare/model_index.json").exists()


def test_pipelines_of_other_models_are_refused(wan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    theirs, out = tmp_path / "theirs", tmp_path / "out"
    shutil.copytree(wan / "theirs", theirs)
    config, index = theirs / "transformer/config.json", theirs / "model_index.json"
    good = config.read_text(), index.read_text()
    asked = [str(wan / "ours"), "--out", str(out), "--pipeline", str(theirs)]

    config.write_text(json.dumps(json.loads(good[0]) | {"text_dim": 4096, "in_channels": 48}))
    said = told(capsys, *asked)
    assert "in_channels 48 (the exported model has 4), text_dim 4096 (the exported model has 20)" in said
    config.write_text(good[0])
    index.write_text(good[1].replace("WanTransformer3DModel", "SkyReelsV2Transformer3DModel"))
    assert "class SkyReelsV2Transformer3DModel (the exported model has WanTransformer3DModel)" in told(capsys, *asked)
    index.write_text(json.dumps({"vae": ["diffusers", "AutoencoderKLWan"]}))
    assert "got vae; expected transformer too" in told(capsys, *asked)
    index.write_text(good[1])
    shutil.rmtree(theirs / "vae")
    assert "model_index.json names vae, which is not there; fetch it again" in told(capsys, *asked)
    index.unlink()
    assert "no model_index.json; give --pipeline FOLDER_OR_HUB_ID, or --pipeline none" in told(capsys, *asked)
    assert "theirs/x: no such pipeline" in told(capsys, *asked[:-1], f"{theirs}/x")
    assert "is not empty; a pipeline is written" in told(capsys, str(wan / "ours"), "--out", str(wan / "theirs"))
    assert "--link links the other parts" in told(capsys, *asked[:-1], "none", "--link")
    assert not out.exists() and (wan / "theirs/vae/config.json").exists()


def test_of_a_hub_id_the_parts_are_fetched_and_the_weights_that_are_replaced_are_not(
    wan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[str] = []

    def snapshot_download(name: str, revision: str, allow_patterns: list[str]) -> str:
        assert (name, revision) == ("Wan-AI/Wan2.1", "a" * 40)
        asked.extend(allow_patterns)
        return str(wan / "theirs")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    shutil.copytree(wan / "ours", tmp_path / "ours")
    config = tmp_path / "ours/config.json"
    entries = json.loads(config.read_text())
    entries["released"] |= {"pipeline": "Wan-AI/Wan2.1", "revision": "a" * 40}
    config.write_text(json.dumps(entries))
    out = export_to_diffusers(tmp_path / "ours", tmp_path / "out")
    assert (out / "vae/config.json").exists()
    assert asked == [
        "model_index.json", "model_index.json", "transformer/config.json",
        *(f"{part}/*" for part in ("scheduler", "text_encoder", "tokenizer", "vae")),
    ]  # fmt: skip
