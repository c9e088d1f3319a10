"""`reelpack autoencoder-check` on a dataset and on a video."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from curate.media.decode import decode_clip
from pipelines.cli import main
from tests.support.curated import curated
from tests.support.video_networks import write_i3d
from tests.support.videos import moving, write_video

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
