"""Alignment to features of patches, which are computed while a run trains."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from curate.encoders.vision import VisionConfig
from pipelines.config import load_config
from pipelines.drivers.encode import encode
from tests.support.drifting import FPS, FRAMES, HEIGHT, WIDTH, Drifting
from tests.support.latents import LATENTS_RECORD, TEXT_DIM, SyntheticClip, write_dataset
from tests.support.made_clips import write_made_clips
from tests.support.vision import write_tiny_dinov2
from tests.train.test_loop import Stopped, config, logged, stop_after
from train.align.config import PatchesConfig
from train.align.frames import frames_of_tokens
from train.align.patches import ClipFeatures
from train.align.stored_features import StoredFeatures
from train.autoencoder.config import EncodeConfig
from train.data.in_turn import InTurn
from train.data.manifest import Manifest, read_manifest
from train.data.mix import join_manifests
from train.loop import train
from train.run.config import TrainConfig
from train.run.folder import read_run

STRIDE_PX, STRIDE_FRAMES = 8, 4
CPU = torch.device("cpu")
MADE = [Drifting(i, "train" if i < 4 else "val") for i in range(5)]


class Colors:
    """Cells of a size in px, and of each its mean color."""

    fingerprint = "colors"

    def __init__(self, rows: int = 16, columns: int = 16) -> None:
        self.rows, self.columns = rows, columns

    def setup(self) -> None:
        pass

    def patch_features(self, images: np.ndarray) -> np.ndarray:
        cells = images.reshape(len(images), -1, self.rows, images.shape[2] // self.columns, self.columns, 3)
        return cells.mean((2, 4)).transpose(0, 3, 1, 2).astype(np.float32)


def latent_of(clip: Drifting) -> np.ndarray:
    """(4, 3, 4, 6): mean colors of what each value stands for, but for time."""
    frames = clip.frames()[::STRIDE_FRAMES] / 128 - 1
    cells = frames.reshape(len(frames), HEIGHT // STRIDE_PX, STRIDE_PX, -1, STRIDE_PX, 3).mean((2, 4))
    return np.concatenate([cells, cells[..., :1]], -1).transpose(3, 0, 1, 2).astype(np.float16)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips that train and one held out, with latents that say with which settings they are encoded."""
    out = tmp_path_factory.mktemp("drifting") / "dataset"
    text = np.ones((2, TEXT_DIM), np.float16)
    latents = [
        SyntheticClip(clip_id=clip.clip_id, split=clip.split, latent=latent_of(clip), short=text, dense=None)
        for clip in MADE
    ]
    write_dataset(out, latents)
    write_made_clips(str(out), MADE, FPS)
    say(out, config=EncodeConfig(windows="middle").model_dump(mode="json"))
    return out


def say(dataset: Path, **facts: Any) -> None:
    """In the record of the latents."""
    (dataset / "latents/lat0/fingerprint.json").write_text(json.dumps({**LATENTS_RECORD, **facts}))


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_dinov2(tmp_path_factory.mktemp("dinov2"))


def aligned(encoder: Path) -> dict[str, Any]:
    shape = {"kind": "patches", "weight": 0.5, "block": 0, "projector_dim": 64, "frames": 2}
    return {**shape, "encoder": {"kind": "transformers", "model": str(encoder)}}


def settings(encoder: Path, **changes: Any) -> TrainConfig:
    return config(align=aligned(encoder), evaluate={}, data__plan={"token_budget": 72, "packs_per_step": 2}, **changes)


def manifest_of(dataset: Path, patch: tuple[int, int, int] = (1, 2, 2)) -> Manifest:
    return read_manifest(str(dataset), split="train", patch=patch)


@pytest.mark.parametrize(("patch", "num_frames", "seen"), [
    ((1, 2, 2), 3, [[0], [3], [7]]),
    ((1, 2, 2), 2, [[0], [3]]),
    ((2, 2, 4), 3, [[0], [5]]),
    ((1, 1, 3), 1, [[0]]),
])  # fmt: skip
def test_a_token_has_the_features_of_its_part_of_the_clip(
    dataset: Path, patch: tuple[int, int, int], num_frames: int, seen: list[list[int]]
) -> None:
    manifest = manifest_of(dataset, patch)
    assert frames_of_tokens(num_frames, patch, STRIDE_FRAMES, 1) == seen
    height, width = (side * STRIDE_PX for side in patch[1:])
    features = ClipFeatures(manifest, Colors(height, width), 1, patch, InTurn(CPU))
    shown = {clip.clip_id: clip.frames() for clip in MADE}
    for index in range(len(manifest)):
        row = manifest.row(index)
        frames = shown[row["clip_id"]]
        assert frames.shape == (FRAMES, HEIGHT, WIDTH, 3)
        expected = [
            frames[of_token][:, top : top + height, left : left + width].mean((0, 1, 2))
            for of_token in seen
            for top in range(0, HEIGHT - height + 1, height)
            for left in range(0, WIDTH - width + 1, width)
        ]
        found = features.of(index, row, num_frames)
        assert found.dtype == torch.float16
        assert np.abs(found.float().numpy() - expected).max() < 4  # a codec loses something


def test_features_of_several_datasets_are_those_of_each(dataset: Path, tmp_path: Path) -> None:
    """One of them has its latents stored, and of the other they are made while training."""
    other = shutil.copytree(dataset, tmp_path / "other")
    say(other, config=EncodeConfig(windows="middle", store=False).model_dump(mode="json"))
    alone, beside = manifest_of(dataset), manifest_of(other)
    both = join_manifests({"one": alone, "other": beside})
    made = [ClipFeatures(manifest, Colors(), 1, (1, 2, 2), InTurn(CPU)) for manifest in (alone, both)]
    for index in range(len(both)):
        made[1].check()
        expected = made[0].of(index % len(alone), alone.row(index % len(alone)), 3)
        assert torch.equal(made[1].of(index, both.row(index), 3), expected)


def test_frames_of_a_token_are_spread_over_those_it_stands_for() -> None:
    assert frames_of_tokens(3, (1, 2, 2), 4, 2) == [[0], [2, 4], [6, 8]]
    assert frames_of_tokens(5, (2, 1, 1), 4, 3) == [[0], [2, 5, 7], [10, 13, 15]]
    assert frames_of_tokens(4, (2, 1, 1), 1, 9) == [[0, 1], [2, 3]]


def test_an_aligned_run_learns_and_continues_bitwise(dataset: Path, dino: Path, tmp_path: Path) -> None:
    made = settings(dino, steps=16, optimizer__schedule="constant", checkpoint__every=5)
    train(made, str(dataset), tmp_path / "whole")
    losses = [row["align_loss"] for row in logged(tmp_path / "whole") if "loss" in row]
    print(f"{losses[0]:.3f} → {losses[-1]:.3f}")
    assert losses[0] > 0.35 and losses[-1] < 0.6 * losses[0]
    with pytest.raises(Stopped):
        train(made, str(dataset), tmp_path / "cut", on_step=stop_after(12))
    train(made, str(dataset), tmp_path / "cut")
    assert logged(tmp_path / "cut") == logged(tmp_path / "whole")
    assert (read_run(tmp_path / "cut")[1].embedding or "").startswith("transformers-")
    shutil.copytree(write_tiny_dinov2(tmp_path / "other", seed=1), dino, dirs_exist_ok=True)
    with pytest.raises(ValueError, match=r"was aligned to transformers-.*dataset and weights now give transformers-"):
        train(made, str(dataset), tmp_path / "cut")


def test_what_does_not_fit_is_told_before_the_first_step(dataset: Path, dino: Path, tmp_path: Path) -> None:
    def message() -> str:
        made = PatchesConfig.model_validate(aligned(dino))
        with pytest.raises(ValueError) as raised:
            made.build(manifest_of(broken), width=32, patch=(1, 2, 2), seed=0, device=CPU)
        return str(raised.value)

    broken = shutil.copytree(dataset, tmp_path / "dataset")
    say(broken)
    assert "does not say which frames of a clip" in message()
    say(broken, config=EncodeConfig(windows="middle", max_frames=5).model_dump(mode="json"))
    found = message()
    assert "its frames make a latent of (T, H, W) = (2, 4, 6)" in found and "has (3, 4, 6)" in found
    say(broken, config=EncodeConfig(windows="middle").model_dump(mode="json"))
    (broken / "shards/train-000000.tar").unlink()
    found = message()
    assert "sees the frames of clips" in found and "train-000000.tar: no such shard" in found
    (dino / "preprocessor_config.json").unlink()
    assert "image encoder model" in message() and "preprocessor_config.json" in message()


def test_stored_features_are_those_of_training(tmp_path: Path) -> None:
    """In float16; of patches that they serve."""
    dino, url = write_tiny_dinov2(tmp_path / "dinov2"), str(tmp_path / "dataset")
    write_made_clips(url, MADE, FPS)
    overrides = ["execute.executor=local", f"encode.features={{kind: transformers, model: {dino}}}"]
    latents = encode(url, load_config(overrides=overrides)).latents
    manifest = read_manifest(url, split="train", patch=(1, 1, 1), latents=latents)
    encoder = VisionConfig(model=str(dino)).build()
    encoder.setup()
    online = ClipFeatures(manifest, encoder, 1, (1, 1, 1), InTurn(CPU))
    stored = StoredFeatures(manifest, (1, 1, 1), CPU)
    assert manifest.latents["features"]["fingerprint"] == encoder.fingerprint
    for index, num_frames in enumerate((3, 2)):
        row = manifest.row(index)
        expected = online.of(index, row, num_frames)
        assert expected.std() > 0.1
        torch.testing.assert_close(stored.of(index, row, num_frames), expected, atol=4e-3, rtol=2e-3)
    with pytest.raises(ValueError, match=r"features are of whole latent frames, and patches \(2, 1, 1\)"):
        StoredFeatures(manifest, (2, 1, 1), CPU)
    with pytest.raises(ValidationError, match="stored features are of one frame of a token, and frames is 2"):
        PatchesConfig(stored=True, frames=2)
