"""A run that begins with an imported model refuses latents and captions of other encoders than its pipeline's."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from curate.encoders.picture_states import PictureStatesConfig
from curate.encoders.text import TextEncoder
from curate.encoders.text_config import TextEncoderConfig
from train.autoencoder.config import DiffusersAutoencoderConfig
from train.autoencoder.diffusers_folder import fingerprint_of
from train.run.encoders import check_autoencoder, check_pictures, check_text_encoder


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """Files as a pipeline has them: they are compared, not loaded."""
    root = tmp_path / "theirs"
    for part in ("vae", "text_encoder", "tokenizer", "image_encoder", "image_processor"):
        (root / part).mkdir(parents=True)
        (root / part / "config.json").write_text(json.dumps({"of": part}))
    return root


@pytest.fixture
def imported(pipeline: Path) -> Path:
    return write_import(pipeline.parent / "ours", str(pipeline))


def write_import(folder: Path, pipeline: str | None, class_name: str = "WanTransformer3DModel", **more: Any) -> Path:
    folder.mkdir()
    entry = {"config": {"_class_name": class_name}, "pipeline": pipeline, "revision": None, "subfolder": "transformer"}
    (folder / "config.json").write_text(json.dumps({"released": entry, **more}))
    return folder


def latents_of(root: Path) -> dict[str, Any]:
    """What `encode` notes of latents of a pipeline's autoencoder."""
    config = DiffusersAutoencoderConfig(path=str(root), subfolder="vae", dtype="bfloat16")
    fingerprint = fingerprint_of(root / "vae", config)
    return {"config": {"autoencoder": config.model_dump(mode="json")}, "autoencoder_fingerprint": fingerprint}


def pictures_of(root: Path) -> dict[str, Any]:
    config = PictureStatesConfig(model=str(root))
    return {"config": {"picture": config.model_dump(mode="json")}, "picture_fingerprint": config.build().fingerprint}


def text_of(root: Path, **settings: Any) -> dict[str, Any]:
    config = TextEncoderConfig(model=str(root), subfolder="text_encoder", max_tokens=64, **settings)
    return {"config": config.model_dump(mode="json"), "encoder_fingerprint": TextEncoder(config).fingerprint}


def test_the_encoders_of_the_pipeline_are_taken_wherever_they_lie(pipeline: Path, imported: Path, tmp_path: Path):
    for root in (pipeline, shutil.copytree(pipeline, tmp_path / "copy")):
        check_autoencoder(str(imported), latents_of(root))
        check_text_encoder(str(imported), text_of(root))
        check_pictures(str(imported), pictures_of(root))


def test_others_are_refused_with_both_sides(pipeline: Path, imported: Path, tmp_path: Path):
    other = shutil.copytree(pipeline, tmp_path / "other")
    for part in ("vae", "text_encoder", "image_processor"):
        (other / part / "config.json").write_text("{}")
    told = rf"train\.init={imported}: its model knows latents of {pipeline}/vae, and the dataset has those of "
    with pytest.raises(ValueError, match=rf"{told}{other}/vae\. Encode .*train\.init_latents=other"):
        check_autoencoder(str(imported), latents_of(other))
    with pytest.raises(ValueError, match=rf"states of pictures of {pipeline}, and the dataset has those of {other}\."):
        check_pictures(str(imported), pictures_of(other))
    with pytest.raises(ValueError, match=f"{told}reelpack"):
        check_autoencoder(str(imported), {"config": {"autoencoder": {"kind": "reelpack"}}})
    told = (
        rf"caption states of {pipeline}/text_encoder, and the dataset has those of {other}/text_encoder\..*init_text"
    )
    with pytest.raises(ValueError, match=told):
        check_text_encoder(str(imported), text_of(other))
    ltx = write_import(tmp_path / "ltx", str(pipeline), "LTXVideoTransformer3DModel")
    check_text_encoder(str(ltx), text_of(pipeline, padding="attended"))
    with pytest.raises(ValueError, match=r"of text\.padding=attended, and the dataset has none\."):
        check_text_encoder(str(ltx), text_of(pipeline))


def test_what_cannot_be_compared_is_told(pipeline: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    hub = write_import(tmp_path / "hub", "Wan-AI/Wan2.1")
    with caplog.at_level(logging.WARNING):
        check_autoencoder(str(hub), latents_of(pipeline))
        check_text_encoder(str(hub), text_of(pipeline))
    assert [f"of Wan-AI/Wan2.1/{part}, and the dataset has those of {pipeline}/{part}; whether" in text
            for part, text in zip(("vae", "text_encoder"), caplog.messages, strict=True)] == [True, True]  # fmt: skip


def test_models_that_know_no_pipeline_or_have_learned_since_take_any(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    folders = [
        write_import(tmp_path / "bare", None),
        write_import(tmp_path / "trained", "/gone", latents={"fingerprint": "x"}),
        tmp_path / "none",
    ]
    for folder in folders:
        check_autoencoder(str(folder), {"config": {"autoencoder": {"kind": "reelpack"}}})
        check_text_encoder(str(folder), {"config": {"model": "minilm-l6-v2"}})
    for record in ({}, {"config": {}}):  # of an earlier version
        check_autoencoder(str(write_import(tmp_path / f"import{len(record)}", "/gone")), record)
        check_text_encoder(str(folders[0]), record)
    assert not caplog.messages
