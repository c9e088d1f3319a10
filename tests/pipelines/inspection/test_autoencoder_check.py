"""`reelpack autoencoder-check` on a dataset and on a video."""

import json
import wave
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from curate.media.decode import decode_clip
from pipelines.cli import main
from tests.support.curated import curated
from tests.support.video_networks import write_i3d
from tests.support.videos import moving, write_video
from train.autoencoder.network import CausalVideoAutoencoder
from train.autoencoder.network_config import NetworkConfig
from train.autoencoder.weights_folder import save

SMALL = ["--set", "encode.max_area_px=4096", "--set", "encode.max_frames=5"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    return curated(tmp_path_factory.mktemp("check"))


def run(*words: str) -> object:
    with pytest.raises(SystemExit) as stopped:
        main(["autoencoder-check", *words])
    return stopped.value.code


def test_two_autoencoders_are_compared_on_a_dataset(
    made: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = str(tmp_path / "worst.mp4")
    other = "{kind: reelpack, tile_px: 64}"
    code = run(made.url, "--autoencoder", "embedded", "--autoencoder", other, "--clips", "9", "--video", video, *SMALL)
    printed, progress = capsys.readouterr()
    assert "decode: 2/2" in progress and "embedded: 2/2" in progress
    assert code == 0 and "2 clips" in printed and "worst by embedded:" in printed and "codes used" not in printed
    assert len(decode_clip(Path(video).read_bytes()).rgb) == 10


def test_a_video_is_taken_in_excerpts_and_json_is_one_line_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_video(tmp_path / "film.mp4", np.concatenate([moving(1, 2), moving(2, 2)]))
    assert run(str(tmp_path / "film.mp4"), "--clips", "3", "--json", *SMALL) == 0
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert found["autoencoder"] == "reelpack" and len(found["clips"]) == 3
    assert found["clips"][0]["psnr_db"] == min(clip["psnr_db"] for clip in found["clips"])


def test_networks_that_compare_are_named_in_the_table_and_in_json(
    made: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = f"{{kind: i3d, path: {write_i3d(tmp_path / 'tiny.pt')}, num_frames: 10}}"
    words = ["--perceptual", "features", "--rfvd", network, *SMALL, "--set", "encode.max_frames=13"]
    assert run(made.url, *words) == 0
    printed = capsys.readouterr().out
    assert printed.count("features_efficientnet_lite0") == 1 + 2  # the mean, and two clips
    assert "rfvd_tiny_10" in printed and "lpips" not in printed
    assert "compare it only at equal numbers of clips" in printed
    assert run(made.url, *words, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rfvd"]["rfvd_tiny_10_clips"] == 2
    assert all(clip["distances"]["features_efficientnet_lite0"] > 0 for clip in found["clips"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--autoencoder", "{kind: nothing}"], "no settings of an autoencoder"),
        (["--autoencoder", "/nowhere"], "no model.safetensors in /nowhere"),
        (["--video", "/nowhere/x.mp4"], "there is no folder /nowhere"),
        (["--perceptual", "nothing"], "--perceptual nothing: "),
        (["--perceptual", "{kind: lpips, path: /nowhere.pth}"], "/nowhere.pth is no file"),
        (["--rfvd", "i3d"], "--rfvd i3d: "),
        (["--video", "x.gif"], "a name that ends in .mp4"),
    ],
)
def test_what_cannot_be_compared_is_told(
    words: list[str], message: str, made: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(made.url, "--clips", "1", *words, *SMALL) == 2
    assert message in capsys.readouterr().err


def test_what_is_no_video_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    assert run(str(tmp_path / "text.mp4"), *SMALL) == 2
    assert "text.mp4: not_media" in capsys.readouterr().err


def test_a_folder_of_videos_is_taken_without_what_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    films = tmp_path / "films/more"
    films.mkdir(parents=True)
    write_video(films / "wide.mp4", moving(1, 2))
    write_video(films / "high.mp4", np.ascontiguousarray(moving(2, 2).transpose(0, 2, 1, 3)))
    (films.parent / "notes.txt").write_text("no video")
    (films / "cut.mp4").write_bytes((films / "wide.mp4").read_bytes()[:200])
    video = tmp_path / "worst.mp4"
    words = ["--autoencoder", "embedded", "--autoencoder", str(save_other(tmp_path)), "--clips", "4", "--json"]
    code = run(str(films.parent), *words, "--video", str(video), *SMALL)
    out, err = capsys.readouterr()
    assert code == 0, err
    first, second = map(json.loads, out.splitlines())
    names = {clip["name"].split(" at ")[0] for clip in first["clips"]}
    assert names == {"wide.mp4", "high.mp4"} and first["failures"] == []
    told = "".join(err.split())  # a terminal's width breaks long paths
    assert "notes.txtisleftout:not_media" in told and "cut.mp4isleftout" in told
    assert (first["temporal_stride"], second["temporal_stride"]) == (4, 1)
    assert second["spatial_stride"] == 4 and len(second["clips"]) == len(first["clips"])
    assert len(decode_clip(video.read_bytes()).rgb) > 5


def save_other(tmp_path: Path) -> Path:
    """An autoencoder of other strides."""
    config = NetworkConfig(
        widths=(8,), spatial_stride=4, temporal_stride=1, encoder_blocks=(1,), decoder_blocks=(1,),
        latent_channels=2, latent_mean=(0.0, 0.1), latent_std=(1.0, 2.0),
    )  # fmt: skip
    torch.manual_seed(0)
    save(CausalVideoAutoencoder(config), tmp_path / "other")
    return tmp_path / "other"


@pytest.mark.parametrize("kind", ["empty folder", "dataset", "sound", "image"])
def test_sources_without_videos_are_told_and_an_image_is_a_clip(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, code, said = tmp_path / "source", 2, "a dataset without clips, or a folder without videos"
    if kind in ("empty folder", "dataset"):
        source.mkdir()
    if kind == "dataset":
        (source / "config.yaml").write_text("")
    elif kind == "sound":
        source, said = tmp_path / "tone.wav", "no_video_stream"
        with wave.open(str(source), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(bytes(16000))
    elif kind == "image":
        source, code, said = tmp_path / "picture.png", 0, "1 clips"
        Image.fromarray(moving(1, 1)[0]).save(source)
    assert run(str(source), *SMALL) == code
    assert said in " ".join("".join(capsys.readouterr()).split())
