"""Memory does not grow with the length of a clip: frames that are alive at the same time are counted."""

import weakref
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from curate.media.decode import clip_frames, clip_times
from curate.media.encode import encode_mp4
from curate.media.geometry import RgbConverter
from curate.media.readers.frames import PYAV
from curate.shards.tar import write_tar
from pipelines.inspection.verify import damage
from train.autoencoder.clip import EncodeItem
from train.autoencoder.config import EncodeConfig, ReelpackConfig
from train.autoencoder.encode import EncodeStage
from train.autoencoder.own import ReelpackAutoencoder
from train.autoencoder.pixels import covering_frames, encode_frames, to_video

NUM_FRAMES = 400
MOST_ALIVE = 3
"""The one in use, the next one, and the first, which says how large all are."""


@pytest.fixture(scope="module")
def clip() -> bytes:
    """Each frame has its number in its brightness."""
    levels = (np.arange(NUM_FRAMES) // 2 + 20).astype(np.uint8)
    return encode_mp4(np.broadcast_to(levels[:, None, None, None], (NUM_FRAMES, 32, 32, 3)), 24)


@pytest.fixture
def frames(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Counts decoded frames: all, and the most that were alive."""
    counts = SimpleNamespace(decoded=0, alive=0, most=0)
    convert = RgbConverter.__call__

    def died() -> None:
        counts.alive -= 1

    def watched(self: RgbConverter, frame: object) -> np.ndarray:
        rgb = convert(self, frame)
        counts.decoded, counts.alive = counts.decoded + 1, counts.alive + 1
        counts.most = max(counts.most, counts.alive)
        weakref.finalize(rgb, died)
        return rgb

    monkeypatch.setattr(RgbConverter, "__call__", watched)
    return counts


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Frames of each part that the autoencoder is given."""
    seen: list[int] = []
    encode_parts = ReelpackAutoencoder.encode_parts

    def watched(self: ReelpackAutoencoder, given: Iterator[torch.Tensor], **options: bool) -> torch.Tensor:
        return encode_parts(self, (seen.append(part.shape[2]) or part for part in given), **options)

    monkeypatch.setattr(ReelpackAutoencoder, "encode_parts", watched)
    return seen


def stage(clip: bytes, folder: Path, **settings: object) -> tuple[EncodeStage, EncodeItem]:
    [member] = write_tar(str(folder / "train-000000.tar"), [("clip", {"mp4": clip})])
    item = EncodeItem(clip_id="clip", shard=member.shard, offset=member.offset, size=member.size, kind="video")
    config = EncodeConfig(autoencoder=ReelpackConfig(device="cpu", chunk_latent_frames=4), **settings)
    return EncodeStage(config, str(folder)), item


@pytest.mark.parametrize(("max_frames", "num_frames"), [(9, 9), (10_000, 397)])
def test_encode_holds_a_few_frames_and_a_part(
    clip: bytes, tmp_path: Path, frames: SimpleNamespace, parts: list[int], max_frames: int, num_frames: int
) -> None:
    encoder, item = stage(clip, tmp_path, max_frames=max_frames, windows="middle")
    [[outcome]] = encoder.process([item])
    assert outcome.num_frames == frames.decoded == sum(parts) == num_frames
    assert frames.most <= MOST_ALIVE and frames.alive == 0
    assert parts[0] <= 13 and max(parts) <= 16
    times = clip_times(clip)
    start = (NUM_FRAMES - num_frames) // 2
    rgb = np.stack(list(clip_frames(clip, times, np.arange(start, start + num_frames))))
    whole = ReelpackConfig(device="cpu", chunk_latent_frames=4).build().encode(to_video(rgb))
    assert np.array_equal(outcome.latent, whole.numpy().astype(np.float16))


def test_sizes_alone_hold_a_few_frames(clip: bytes, tmp_path: Path, frames: SimpleNamespace) -> None:
    encoder, item = stage(clip, tmp_path, max_frames=10_000, store=False)
    [[outcome]] = encoder.process([item])
    assert outcome.tensors is None and outcome.shape == (16, 100, 4, 4) and outcome.num_frames == frames.decoded == 397
    assert frames.most <= MOST_ALIVE


def test_of_a_long_clip_only_the_frames_that_are_given_are_decoded(
    clip: bytes, tmp_path: Path, frames: SimpleNamespace
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip)
    autoencoder = ReelpackConfig(device="cpu").build()
    last_ones = np.arange(NUM_FRAMES - 5, NUM_FRAMES)
    shown = covering_frames(PYAV, str(path), clip_times(str(path)), last_ones, size=(32, 32), multiple_px=16)
    latent = encode_frames(autoencoder, shown, 5)
    assert frames.decoded == 5 and frames.most <= MOST_ALIVE
    times = clip_times(clip)
    last = np.stack(list(clip_frames(clip, times, np.arange(NUM_FRAMES - 5, NUM_FRAMES))))
    torch.testing.assert_close(latent, autoencoder.encode(to_video(last)), rtol=1e-4, atol=1e-4)
    assert abs(int(last[-1].mean()) - (NUM_FRAMES - 1) // 2 - 20) <= 2


def test_verify_holds_a_few_frames(clip: bytes, tmp_path: Path, frames: SimpleNamespace) -> None:
    encoder, item = stage(clip, tmp_path)
    row = {"clip_id": "clip", "shard": item.shard, "offset": item.offset, "size": item.size, "num_frames": NUM_FRAMES}
    assert damage(encoder._reader, {**row, "height": 32, "width": 32}, None) is None
    assert "(400, 32, 32), the index says (400, 32, 30)" in str(
        damage(encoder._reader, {**row, "height": 32, "width": 30}, None)
    )
    assert frames.decoded == 2 * NUM_FRAMES and frames.most <= MOST_ALIVE
