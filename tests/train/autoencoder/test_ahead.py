"""Clips are decoded beside the autoencoder: equal latents, bounded memory."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from curate.media.encode import encode_mp4
from curate.schema import Failure, FailureKind
from curate.shards.tar import write_tar
from train.autoencoder import ahead
from train.autoencoder.clip import EncodeItem
from train.autoencoder.config import EncodeConfig, ReelpackConfig
from train.autoencoder.encode import EncodeStage

CONFIG = EncodeConfig(autoencoder=ReelpackConfig(device="cpu"), fps=12, max_area_px=48 * 64, max_frames=9)


class Counted:
    """Ten frames of 12 bytes; counts those that were asked for."""

    def __init__(self, *, fails_at: int = 10) -> None:
        self.num_made, self.fails_at = 0, fails_at

    def __iter__(self) -> Iterator[np.ndarray]:
        for number in range(10):
            if number == self.fails_at:
                raise ValueError("damaged")
            self.num_made += 1
            yield np.full((2, 2, 3), number, np.uint8)


def test_frames_come_in_order_and_only_some_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "MAX_AHEAD_BYTES", 3 * 12)
    made = Counted()
    frames = ahead.ahead(iter(made))
    end = time.monotonic() + 10
    while made.num_made < 5 and time.monotonic() < end:  # the first, three that wait, and one in hand
        time.sleep(0.01)
    time.sleep(0.1)
    assert made.num_made == 5
    assert [int(frame[0, 0, 0]) for frame in frames] == list(range(10))


def test_what_cannot_be_decoded_is_raised_after_the_frames_before_it() -> None:
    seen = []
    with pytest.raises(ValueError, match="damaged"):
        for frame in ahead.ahead(iter(Counted(fails_at=4))):
            seen.append(int(frame[0, 0, 0]))
    assert seen == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="damaged"):
        ahead.ahead(iter(Counted(fails_at=0)))


def test_decoding_ends_where_nobody_takes_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "MAX_AHEAD_BYTES", 12)
    before = threading.active_count()
    frames = ahead.ahead(iter(Counted()))
    next(frames)
    frames.close()  # type: ignore[attr-defined]
    end = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.01)
    assert threading.active_count() == before


@pytest.fixture
def items(tmp_path: Path, square_clip: np.ndarray) -> list[EncodeItem]:
    samples = {f"clip {number}": {"mp4": encode_mp4(square_clip[number:], 24)} for number in range(3)}
    members = write_tar(str(tmp_path / "train-000000.tar"), [*samples.items(), ("rubbish", {"mp4": b"no" * 999})])
    found = [
        EncodeItem(clip_id=one.key, shard=one.shard, offset=one.offset, size=one.size, kind="video") for one in members
    ]
    return [*found, EncodeItem(clip_id="missing", shard="train-000001.tar", offset=512, size=10, kind="video")]


def test_clips_that_were_begun_before_have_the_latents_and_failures_of_others(
    items: list[EncodeItem], tmp_path: Path
) -> None:
    stage = EncodeStage(CONFIG, str(tmp_path))
    stage.setup()
    alone = stage.process(items)
    stage.prefetch(items)
    for one, other in zip(alone, stage.process(items), strict=True):
        if isinstance(one, Failure):
            assert one == other
        else:
            assert not isinstance(other, Failure) and other
            assert [window.latent.tobytes() for window in one] == [window.latent.tobytes() for window in other]
    assert [one.kind for one in alone if isinstance(one, Failure)] == [FailureKind.NOT_MEDIA, FailureKind.MISSING]


def test_a_clip_is_decoded_before_it_is_asked_for(
    items: list[EncodeItem], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = threading.Event()
    stage = EncodeStage(CONFIG, str(tmp_path))
    stage.setup()
    opened = stage._open
    monkeypatch.setattr(stage, "_open", lambda *given, **named: (opened(*given, **named), decoded.set())[0])
    stage.prefetch(items[:1])
    assert decoded.wait(10)
    monkeypatch.setattr(stage, "_open", None)
    assert not isinstance(stage.process(items[:1])[0], Failure)
