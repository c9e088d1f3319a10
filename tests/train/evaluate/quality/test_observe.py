"""What networks see of a video: CLIPSIM beside open_clip called directly, and which frames they are given."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.open_clip import write_tiny_open_clip
from tests.support.video_networks import write_i3d
from train.evaluate.quality.config import MeasureConfig
from train.evaluate.quality.observe import Observer
from train.evaluate.quality.text import match

CPU = torch.device("cpu")


def observer(text: list[dict], features: list[dict]) -> Observer:
    settings = {"text": text, "features": features, "num_text_frames": 3}
    return Observer(MeasureConfig.model_validate(settings), CPU)


def test_clipsim_is_that_of_open_clip_itself(tmp_path: Path) -> None:
    (folder := tmp_path / "my-clip").mkdir()
    write_tiny_open_clip(folder)
    encoder = {"kind": "open_clip", "model": f"local-dir:{folder}"}
    looking = observer([encoder], [{"kind": "frames", "encoder": encoder, "num_frames": 2}])
    prompts = ["a red square", "a green circle"]
    videos = [np.random.default_rng(i).integers(0, 256, (5, 40, 48, 3), dtype=np.uint8) for i in range(2)]
    seen = [looking.see(rgb, fps=8.0) for rgb in videos]
    assert list(seen[0].features) == ["fd_my_clip_2"] and list(seen[0].frames) == ["clipsim_my_clip"]
    name = "clipsim_my_clip"
    found = match([one.frames[name] for one in seen], looking.texts(prompts)[name], prompts, 99)
    import open_clip

    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(prompts)
    wanted = []
    with torch.no_grad():
        texts = model.eval().encode_text(tokens, normalize=True)
        for rgb, text in zip(videos, texts, strict=True):
            pixels = torch.stack([preprocess(Image.fromarray(rgb[i])) for i in (0, 2, 4)])
            wanted.append(float((model.encode_image(pixels, normalize=True) @ text).mean()))
    assert found.own == pytest.approx(wanted, abs=1e-5)


def test_videos_that_a_network_cannot_take_are_told_and_longer_ones_are_seen_from_their_start(tmp_path: Path) -> None:
    i3d = {"kind": "i3d", "path": str(write_i3d(tmp_path / "i3d_torchscript.pt")), "num_frames": 10}
    looking = observer([], [i3d])
    assert looking.min_frames == 10
    with pytest.raises(ValueError, match=r"fvd_i3d_torchscript_10 sees 10 frames, and the videos have 9; take longer"):
        looking.check_length(9)
    looking.check_length(10)
    rgb = np.random.default_rng(0).integers(0, 256, (14, 32, 32, 3), dtype=np.uint8)
    whole, cut = (
        looking.see(video, 8.0, with_text=False).features["fvd_i3d_torchscript_10"] for video in (rgb, rgb[:10])
    )
    assert torch.equal(whole, cut) and whole.shape == (6,)
