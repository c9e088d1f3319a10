"""What is drawn of clips: a function of seed, step and rank, from a window that moves over all clips."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from curate.encoders.training_video import EXCERPTS, NUM_FRAMES
from curate.schema import FailureKind, MediaError
from train.autoencoder.training.clips import Batches, Clip, Window, augment, crop, drawable
from train.autoencoder.training.config import ClipsConfig
from train.autoencoder.training.sources import FilmClips, cache_frames

PLAIN = {"flip": 0.0, "recolor": 0.0, "bars": 0.0}
SMALL = ClipsConfig(
    sizes_px=((16, 16), (16, 24)), lengths=(1, 5), batch_px=16 * 16 * 10, short_side_px=(16, 20), window=4,
    samples_per_clip=8, decoded_px=20, num_decoders=2, **PLAIN,
)  # fmt: skip


class Numbered:
    """Clips whose pixels say which clip and which frame they are of; reads are counted."""

    def __init__(self, lengths: list[int], broken: int | None = None) -> None:
        self.train = [Clip(clip_id=str(number), num_frames=length) for number, length in enumerate(lengths)]
        self.held_out: list[Clip] = []
        self.key, self.broken, self.reads = "numbered", broken, Counter[str]()

    def read(self, clip: Clip, start: int, num_frames: int, short_side_px: int) -> np.ndarray:
        self.reads[clip.clip_id] += 1
        if clip.clip_id == str(self.broken):
            raise MediaError(FailureKind.CORRUPT, "broken")
        rgb = np.zeros((num_frames, 20, 36, 3), np.uint8)
        rgb[..., 0] = int(clip.clip_id)
        rgb[..., 1] = np.arange(start, start + num_frames)[:, None, None]
        return rgb


@pytest.fixture
def pool():
    with ThreadPoolExecutor(2) as pool:
        yield pool


def numbers(batch: torch.Tensor) -> torch.Tensor:
    """(B, 2, T): clip and frame of the samples' frames."""
    return ((batch[:, :2, :, 8, 8] + 1) * 127.5).round().long()


def test_batches_are_a_function_of_seed_step_and_rank(pool: ThreadPoolExecutor) -> None:
    source = Numbered([30] * 12)
    first = [Batches(source, SMALL, seed=3).batch(step, pool) for step in (0, 7)]
    again = Batches(source, SMALL, seed=3)
    assert all(torch.equal(one, again.batch(step, pool)) for one, step in zip(first, (0, 7), strict=True))
    for other in (Batches(source, SMALL, seed=4), Batches(source, SMALL, seed=3, rank=1, num_ranks=2)):
        batch = other.batch(7, pool)
        assert batch.shape != first[1].shape or not torch.equal(batch, first[1])


def test_a_sample_is_consecutive_frames_of_one_clip(pool: ThreadPoolExecutor) -> None:
    batches = Batches(Numbered([30] * 12), SMALL, seed=0)
    lengths = set()
    for step in range(20):
        batch = batches.batch(step, pool)
        clips, frames = numbers(batch).unbind(1)
        assert (clips == clips[:, :1]).all()
        if frames.shape[1] > 1:
            steps = frames.diff(dim=1)
            assert (steps == steps[:, :1]).all() and set(steps.unique().tolist()) <= {1, 2, 3}
        lengths.add(batch.shape[2])
        assert batch.shape[3:] in ((16, 16), (16, 24)) and batch.min() >= -1 and batch.max() <= 1
    assert lengths == {1, 5}


def test_a_run_meets_every_clip_and_decodes_each_once_per_visit(pool: ThreadPoolExecutor) -> None:
    source = Numbered([30] * 12)
    batches = Batches(source, SMALL, seed=0)
    seen = {int(clip) for step in range(40) for clip in numbers(batches.batch(step, pool))[:, 0].flatten()}
    assert seen == set(range(12))
    all_in_memory = Numbered([30] * 3)
    batches = Batches(all_in_memory, SMALL, seed=0)
    for step in range(40):
        batches.batch(step, pool)
    assert all_in_memory.reads == {"0": 1, "1": 1, "2": 1}


def test_ranks_share_the_clips(pool: ThreadPoolExecutor) -> None:
    drawn = []
    for rank in (0, 1):
        batches = Batches(Numbered([30] * 12), SMALL, seed=0, rank=rank, num_ranks=2)
        drawn.append({int(clip) for step in range(30) for clip in numbers(batches.batch(step, pool))[:, 0].flatten()})
    assert not drawn[0] & drawn[1] and len(drawn[0] | drawn[1]) == 12


def test_the_window_moves_and_each_epoch_has_another_order() -> None:
    window = Window(10, 4, 0.5, seed=0)
    assert [window.positions(step).start for step in range(5)] == [0, 0, 1, 1, 2]
    orders = [[window.clip(10 * epoch + place) for place in range(10)] for epoch in range(3)]
    assert all(sorted(order) == list(range(10)) for order in orders) and orders[0] != orders[1] != orders[2]
    assert Window(3, 4, 0.5, seed=0).positions(1000) == range(3)


def test_a_clip_that_cannot_be_decoded_is_left_out(pool: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture) -> None:
    batches = Batches(Numbered([30, 30, 30], broken=1), SMALL, seed=0)
    seen = {int(clip) for step in range(10) for clip in numbers(batches.batch(step, pool))[:, 0].flatten()}
    assert seen == {0, 2} and "clip 1 is left out: corrupt: broken" in caplog.text
    with pytest.raises(ValueError, match="none of 1 clips can be decoded"):
        Batches(Numbered([30], broken=0), SMALL, seed=0).batch(0, pool)


def test_images_and_short_clips_give_what_they_have(pool: ThreadPoolExecutor) -> None:
    images = Batches(Numbered([1, 1]), SMALL, seed=0)
    assert {images.batch(step, pool).shape[2] for step in range(8)} == {1}
    mixed = Batches(Numbered([1, 5]), SMALL, seed=0)
    for step in range(8):
        clips, frames = numbers(mixed.batch(step, pool)).unbind(1)
        assert frames.shape[1] == 1 or (clips == 1).all()
    some = ClipsConfig(lengths=(1, 5, 9), length_odds=(1, 2, 7))
    assert [part.tolist() for part in drawable(some, 5)] == [[1, 5], pytest.approx([1 / 3, 2 / 3])]
    assert drawable(ClipsConfig(lengths=(5, 9)), 3)[0].tolist() == [1]


def test_a_crop_has_its_size_at_any_scale() -> None:
    rng = np.random.default_rng(0)
    rgb = np.random.default_rng(1).integers(0, 256, (2, 12, 40, 3), np.uint8)
    for _ in range(20):
        assert crop(rgb, (16, 24), (8.0, 64.0), rng).shape == (2, 3, 16, 24)


def test_augmentation_mirrors_recolors_and_bars() -> None:
    clip = torch.rand(2, 3, 16, 16) * 2 - 1
    rng = np.random.default_rng(0)
    mirrored = augment(clip, ClipsConfig(**PLAIN | {"flip": 1.0}), rng)
    assert torch.equal(mirrored, clip.flip(-1))
    assert torch.equal(augment(clip, ClipsConfig(**PLAIN), rng), clip)
    barred = augment(clip, ClipsConfig(**PLAIN | {"bars": 1.0}), rng)
    assert (barred[..., 0, :] == -1).all() and (barred[..., -1, :] == -1).all() and (barred[..., 8, :] != -1).any()
    recolored = augment(clip, ClipsConfig(**PLAIN | {"recolor": 1.0}), rng)
    assert not torch.equal(recolored, clip) and recolored.abs().max() <= 1


def test_the_film_is_trained_on_without_the_excerpts() -> None:
    frames = np.zeros((NUM_FRAMES, 2, 2, 3), np.uint8)
    frames[:, 0, 0, 0], frames[:, 0, 0, 1] = np.arange(NUM_FRAMES) // 256, np.arange(NUM_FRAMES) % 256
    film = FilmClips(frames)

    def shown(clips) -> list[int]:
        read = [film.read(clip, 0, clip.num_frames, 160)[:, 0, 0].astype(int) for clip in clips]
        return [int(high * 256 + low) for clip in read for high, low, _ in clip]

    held_out = [number for start, end in EXCERPTS for number in range(start, end)]
    assert shown(film.held_out) == held_out
    assert shown(film.train) == sorted({*range(NUM_FRAMES)} - {*held_out})


def test_a_film_that_is_too_short_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match=str(NUM_FRAMES)):
        cache_frames((np.zeros((4, 4, 3), np.uint8) for _ in range(3)), tmp_path / "frames.npy")
    assert not (tmp_path / "frames.npy").exists()
