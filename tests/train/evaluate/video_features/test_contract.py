"""Every network of videos: features of uint8 videos by path, the same each time; what is no such network is told."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.support.video_networks import write_i3d, write_inception, write_videomae
from train.evaluate.video_features.config import (
    FramesConfig,
    I3DConfig,
    InceptionConfig,
    VideoFeaturesConfig,
    VideoMAEConfig,
)

CPU = torch.device("cpu")
MEMBERS: dict[str, Callable[[Path], Any]] = {
    "i3d": lambda folder: I3DConfig(path=str(write_i3d(folder / "i3d_torchscript.pt")), num_frames=10),
    "videomae": lambda folder: VideoMAEConfig(path=str(write_videomae(folder / "tiny-one"))),
    "frames": lambda folder: FramesConfig(num_frames=2),
    "inception": lambda folder: InceptionConfig(path=str(write_inception(folder / "inception-tiny.pt"))),
}
NAMES = {
    "i3d": ("i3d_torchscript_10", 10, 6),
    "videomae": ("videomae_tiny_one", 4, 16),
    "frames": ("efficientnet_lite0_2", 2, 2560),
    "inception": ("inception_tiny", 1, 6),
}


def test_every_kind_is_tested() -> None:
    kinds = {member.model_fields["kind"].default for member in get_args(get_args(VideoFeaturesConfig)[0])}
    assert kinds == set(MEMBERS)


@pytest.mark.parametrize("kind", MEMBERS)
def test_videos_have_features_of_their_own(kind: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    network = MEMBERS[kind](tmp_path).build(CPU)
    assert (network.name, network.num_frames) == NAMES[kind][:2]
    videos = torch.randint(0, 256, (3, network.num_frames, 24, 40, 3), dtype=torch.uint8)
    found = network(videos)
    assert found.shape == (3, NAMES[kind][2]) and found.dtype == torch.float32 and not found.requires_grad
    assert torch.equal(network(videos), found)
    torch.testing.assert_close(network(videos[1:2]), found[1:2])
    assert not torch.allclose(found[0], found[1], atol=1e-6)


def test_i3d_gives_the_features_of_scaled_values(tmp_path: Path) -> None:
    network = MEMBERS["i3d"](tmp_path).build(CPU)
    videos = torch.randint(0, 256, (1, 10, 24, 24, 3), dtype=torch.uint8)
    layer = torch.jit.load(str(tmp_path / "i3d_torchscript.pt")).layer
    with torch.no_grad():
        wanted = layer(videos.permute(0, 4, 1, 2, 3) / 127.5 - 1).relu().mean((2, 3, 4))
    torch.testing.assert_close(network(videos), wanted)


def test_videomae_is_given_values_by_its_own_mean_and_deviation(tmp_path: Path) -> None:
    network = MEMBERS["videomae"](tmp_path).build(CPU)
    flat = torch.full((1, 4, 32, 32, 3), 102, dtype=torch.uint8)  # 0.4
    values = torch.tensor([-0.5, 0.0, 0.5]).view(1, 1, 3, 1, 1).expand(1, 4, 3, 32, 32)
    with torch.no_grad():
        wanted = network._model(pixel_values=values).last_hidden_state.mean(1)
    torch.testing.assert_close(network(flat), wanted, atol=1e-5, rtol=1e-4)


def test_frames_have_the_mean_of_their_features_and_of_their_changes(tmp_path: Path) -> None:
    network, one = FramesConfig(num_frames=3).build(CPU), FramesConfig(num_frames=1).build(CPU)
    videos = torch.randint(0, 256, (2, 3, 24, 40, 3), dtype=torch.uint8)
    frames = torch.stack([one(videos[:, [t]]) for t in range(3)], dim=1)  # (2, 3, 1280)
    changes = (frames[:, 1:] - frames[:, :-1]).abs()
    torch.testing.assert_close(network(videos), torch.cat([frames.mean(1), changes.mean(1)], 1), atol=1e-5, rtol=1e-4)


def test_an_open_clip_model_is_named_by_its_weights(tmp_path: Path) -> None:
    encoder = {"kind": "open_clip", "model": "ViT-B-32", "pretrained": str(tmp_path / "nowhere" / "my-clip.pt")}
    with pytest.raises(ValueError, match=r"my-clip\.pt is not there"):
        FramesConfig.model_validate({"encoder": encoder}).build(CPU)


class Plain(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


def test_files_that_are_no_i3d_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere is no file"):
        I3DConfig(path="nowhere").build(CPU)
    (tmp_path / "text.pt").write_text("text")
    with pytest.raises(ValueError, match=r"text.pt is no TorchScript file"):
        I3DConfig(path=str(tmp_path / "text.pt")).build(CPU)
    torch.jit.script(Plain()).save(str(tmp_path / "plain.pt"))
    with pytest.raises(ValueError, match="does not take rescale, resize, return_features"):
        I3DConfig(path=str(tmp_path / "plain.pt")).build(CPU)
    for name, message in (("text.pt", "no TorchScript"), ("plain.pt", "take return_features"), ("no.pt", "no file")):
        with pytest.raises(ValueError, match=message):
            InceptionConfig(path=str(tmp_path / name)).build(CPU)


def test_folders_that_are_no_videomae_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be loaded"):
        VideoMAEConfig(path=str(tmp_path / "nowhere")).build(CPU)
    whole = write_videomae(tmp_path / "whole")
    part = shutil.copytree(whole, tmp_path / "part")
    weights = load_file(part / "model.safetensors")
    save_file({k: v for k, v in weights.items() if "layer.0" not in k}, part / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"part lacks encoder.layer.0"):
        VideoMAEConfig(path=str(part)).build(CPU)
