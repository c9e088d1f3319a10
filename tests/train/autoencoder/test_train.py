import json

import numpy as np
import pytest
import torch

from curate.encoders.training_video import EXCERPTS, NUM_FRAMES, is_held_out
from curate.storage import publish
from curate.storage.lease import hold
from train.autoencoder import film
from train.autoencoder.bottlenecks.config import BottleneckConfig, FSQConfig, KLConfig, VQConfig
from train.autoencoder.config import ReelpackConfig
from train.autoencoder.film import FilmClips
from train.autoencoder.train import (
    AutoencoderTrainer,
    TrainAutoencoderConfig,
    reconstruction_loss,
    train_autoencoder,
)


@pytest.fixture
def frames() -> np.ndarray:
    """A film whose pixels say which frame they are of: base 256 in red and green; blue is a gradient."""
    out = np.zeros((NUM_FRAMES, 20, 36, 3), np.uint8)
    numbers = np.arange(NUM_FRAMES)
    out[..., 0] = (numbers // 256)[:, None, None]
    out[..., 1] = (numbers % 256)[:, None, None]
    return out


@pytest.fixture
def small_crops(monkeypatch) -> None:
    monkeypatch.setattr(film, "CROPS_PX", ((16, 16), (16, 24)))
    monkeypatch.setattr(film, "CACHE_SHORT_SIDE_PX", 20)
    monkeypatch.setattr(film, "SHORT_SIDE_PX", (16.0, 20.0))


def test_training_never_sees_an_excerpt(frames, small_crops, monkeypatch) -> None:
    monkeypatch.setattr(film, "augment", lambda clip, rng: clip)
    clips = FilmClips(frames=frames, batch_px=40_000, seed=0)
    seen: set[int] = set()
    for step in range(60):
        rgb = ((clips.batch(step) + 1) * 127.5).round().long()
        numbers = rgb[:, 0, :, 8, 8] * 256 + rgb[:, 1, :, 8, 8]
        seen.update(numbers.flatten().tolist())
    assert len(seen) > 3000
    assert not any(start <= number < end for number in seen for start, end in EXCERPTS)


def test_held_out_ranges_touch_at_their_ends_only() -> None:
    start, end = EXCERPTS[0]
    assert not is_held_out(start - 10, start)
    assert is_held_out(start - 10, start + 1)
    assert is_held_out(end - 1, end + 10)
    assert not is_held_out(end, end + 10)
    assert is_held_out(NUM_FRAMES - 5, NUM_FRAMES + 1)


def test_batches_are_a_function_of_seed_and_step(frames, small_crops) -> None:
    clips = FilmClips(frames=frames, batch_px=10_000, seed=3)
    assert torch.equal(clips.batch(7), FilmClips(frames=frames, batch_px=10_000, seed=3).batch(7))
    other = FilmClips(frames=frames, batch_px=10_000, seed=4).batch(7)
    assert other.shape != clips.batch(7).shape or not torch.equal(clips.batch(7), other)
    for step in range(10):
        batch = clips.batch(step)
        assert batch.shape[2] in (1, 5, 9, 13, 17)
        assert batch.min() >= -1.0 and batch.max() <= 1.0


def test_loss_equals_a_naive_sum() -> None:
    out, video = torch.rand(1, 3, 2, 8, 8), torch.rand(1, 3, 2, 8, 8)

    def pooled(v: torch.Tensor, size: int) -> torch.Tensor:
        h, w = v.shape[-2] // size, v.shape[-1] // size
        return v.reshape(*v.shape[:3], h, size, w, size).mean(dim=(4, 6))

    edges = ((out[:, :, 1] - out[:, :, 0]) - (video[:, :, 1] - video[:, :, 0])).abs().mean()
    for size in (1, 2, 4):
        a, b = pooled(out, size), pooled(video, size)
        right = ((a[..., 1:] - a[..., :-1]) - (b[..., 1:] - b[..., :-1])).abs().mean()
        below = ((a[..., 1:, :] - a[..., :-1, :]) - (b[..., 1:, :] - b[..., :-1, :])).abs().mean()
        edges = edges + (right + below) / 2
    expected = (out - video).abs().mean() + 0.7 * edges
    torch.testing.assert_close(reconstruction_loss(out, video, 0.7), expected)


@pytest.mark.parametrize(
    "bottleneck", [KLConfig(weight=1e-5), VQConfig(codebook_size=64), FSQConfig(levels=(8, 8, 8, 8))]
)
def test_a_tiny_autoencoder_learns_one_clip(tiny_config, square_clip, bottleneck: BottleneckConfig) -> None:
    config = TrainAutoencoderConfig(
        network=tiny_config.model_copy(update={"bottleneck": bottleneck}),
        steps=150,
        warmup_steps=10,
        learning_rate=5e-3,
        bfloat16=False,
    )
    trainer = AutoencoderTrainer(config)
    video = torch.from_numpy(square_clip[:5]).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    losses = [trainer.update(video)["loss"] for _ in range(150)]
    assert losses[-1] < 0.2 * losses[0]


def test_a_killed_run_continues_as_if_it_had_not_been(frames, small_crops, tiny_config, tmp_path, monkeypatch) -> None:
    config = TrainAutoencoderConfig(
        network=tiny_config, steps=4, save_every=2, batch_px=4096, warmup_steps=1, bfloat16=False
    )
    update = AutoencoderTrainer.update

    def dies(self, video):
        if self.step == 3:
            raise KeyboardInterrupt
        return update(self, video)

    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "frames.npy", frames)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(AutoencoderTrainer, "update", dies)
        train_autoencoder(config, tmp_path / "killed")
    results = {name: train_autoencoder(config, tmp_path / name) for name in ("whole", "killed")}
    for file in ("model.safetensors", "config.json"):
        assert (results["whole"] / file).read_bytes() == (results["killed"] / file).read_bytes()
    steps = [json.loads(line)["step"] for line in (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 3, 4]  # step 3 was lost with the kill and done again

    autoencoder = ReelpackConfig(path=str(results["whole"]), device="cpu").build()
    assert autoencoder.channels == tiny_config.latent_channels


def test_a_film_that_is_too_short_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match=str(NUM_FRAMES)):
        film.cache_frames((np.zeros((4, 4, 3), np.uint8) for _ in range(3)), tmp_path / "frames.npy")
    assert not (tmp_path / "frames.npy").exists()


def test_of_two_trainings_in_one_folder_one_is_refused(tiny_config, tmp_path) -> None:
    with hold(tmp_path, "train"), pytest.raises(ValueError, match="is being written by"):
        train_autoencoder(TrainAutoencoderConfig(network=tiny_config, steps=1), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_run_does_not_go_on_with_other_settings(tiny_config, tmp_path) -> None:
    config = TrainAutoencoderConfig(network=tiny_config, steps=2)
    (tmp_path / "config.json").write_text(config.model_dump_json())
    with pytest.raises(ValueError, match=r"was begun with seed=0 \(here 3\); choose another folder"):
        train_autoencoder(config.model_copy(update={"seed": 3}), tmp_path)


def test_what_is_written_beside_the_weights_appears_whole(tiny_config, tmp_path, monkeypatch) -> None:
    """A writer that dies leaves neither half a film nor half a checkpoint, and both are synchronised."""
    synchronised: list[int] = []
    monkeypatch.setattr(publish.os, "fsync", synchronised.append)
    trainer = AutoencoderTrainer(TrainAutoencoderConfig(network=tiny_config))
    trainer.save_checkpoint(tmp_path / "checkpoint.pt")
    assert len(synchronised) == 2  # the file and its folder
    before = (tmp_path / "checkpoint.pt").read_bytes()

    def dies(state, file) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(torch, "save", dies)
        trainer.save_checkpoint(tmp_path / "checkpoint.pt")
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    monkeypatch.setattr(film, "NUM_FRAMES", 3)
    frames = film.cache_frames((np.full((2, 3, 3), i, np.uint8) for i in range(5)), tmp_path / "frames.npy")
    assert frames[:, 0, 0, 0].tolist() == [0, 1, 2] and len(synchronised) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "frames.npy"]
