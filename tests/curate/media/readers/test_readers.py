"""Readers of frames: which of them read what, how they fail, and what they are called in keys."""

import multiprocessing
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from caption.backends.openai import OpenAiConfig
from caption.config import CaptionConfig
from curate.media.decode import clip_frames, clip_times
from curate.media.encode import encode_mp4
from curate.media.readers.config import MediaConfig
from curate.media.readers.frames import FrameReader
from curate.media.sample import sample_frames
from curate.schema import MediaError, Span
from curate.scores.config import ScoreConfig
from curate.scores.score import ScoreStage
from curate.scores.static_overlay import StaticOverlayConfig
from tests.support.numbered import NumberedFrames
from tests.support.readers import MEMBERS, reader
from train.autoencoder.config import EncodeConfig
from train.autoencoder.encode import EncodeStage

NUMBERS = np.array([0, 7, 23])
SIZE = (48, 80)


@pytest.fixture(scope="module")
def clip() -> bytes:
    return encode_mp4(NumberedFrames().draw(24), 24)


def read(frames: FrameReader, data: bytes) -> list[int]:
    return NumberedFrames().read(np.stack(list(frames.frames(data, clip_times(data), NUMBERS, SIZE))))


def kind_of(frames: Callable[[], object]) -> object:
    with pytest.raises(MediaError) as error:
        frames()
    return error.value.kind


@pytest.mark.parametrize("member", MEMBERS)
def test_a_damaged_clip_fails_as_with_pyav(member: str, clip: bytes) -> None:
    times, damaged = clip_times(clip), bytearray(clip)
    first = clip.index(b"mdat") + 4
    last = clip.index(b"moov") if clip.index(b"moov") > first else len(clip)
    for place in np.random.default_rng(0).integers(first, last, 60):
        damaged[place] ^= 0x55
    wanted = kind_of(lambda: list(clip_frames(bytes(damaged), times, NUMBERS, SIZE)))
    reading = reader(member).frames(bytes(damaged), times, NUMBERS, SIZE)
    assert kind_of(lambda: list(reading)) == wanted
    assert reading.fallback


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("content", [b"", b"hello" * 40, None])
def test_what_is_no_video_fails_as_with_pyav(member: str, content: bytes | None, tmp_path: Path) -> None:
    path = str(tmp_path / "no.mp4")
    if content is not None:
        Path(path).write_bytes(content)
    span = Span(start_pts=0, end_pts=10, time_base=clip_times(encode_mp4(NumberedFrames().draw(1), 24)).time_base)
    wanted = kind_of(lambda: sample_frames(path, span, 2, short_side_px=None))
    assert kind_of(lambda: reader(member).sample(path, span, 2, short_side_px=None)) == wanted


@pytest.mark.parametrize("member", MEMBERS)
def test_a_span_outside_the_file_fails_as_with_pyav(member: str, clip: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(clip)
    span = Span(start_pts=10**7, end_pts=10**7 + 9, time_base=clip_times(clip).time_base)
    wanted = kind_of(lambda: sample_frames(str(tmp_path / "a.mp4"), span, 2, short_side_px=48))
    assert kind_of(lambda: reader(member).sample(str(tmp_path / "a.mp4"), span, 2, short_side_px=48)) == wanted


@pytest.mark.parametrize("member", MEMBERS)
def test_deinterlaced_frames_long_files_and_photos_are_pyav_s(
    member: str, clip: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "a.mp4")
    Path(path).write_bytes(clip)
    times = clip_times(clip)
    span = Span(start_pts=int(times.pts[0]), end_pts=times.end_pts, time_base=times.time_base)
    frames = reader(member)
    assert frames.sample(path, span, 2, short_side_px=48)[1] is None
    assert frames.sample(path, span, 2, short_side_px=48, deinterlace=True)[1] == "frames are deinterlaced"
    monkeypatch.setattr("curate.media.readers.frames.MAX_SOURCE_S", 0.5)
    assert frames.sample(path, span, 2, short_side_px=48)[1] == "it is longer than 0.5 s"
    photo = BytesIO()
    Image.new("RGB", (64, 48), "gray").save(photo, "png")
    still = frames.frames(photo.getvalue(), clip_times(photo.getvalue()), np.zeros(1, int))
    assert len(list(still)) == 1 and still.fallback is None


@pytest.mark.parametrize("member", MEMBERS)
def test_threads_and_a_forked_process_read_the_same(member: str, clip: bytes) -> None:
    frames = reader(member)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: read(frames, clip), range(16))) == [NUMBERS.tolist()] * 16
    receive, send = multiprocessing.Pipe(duplex=False)
    child = os.fork()
    if not child:
        send.send(read(frames, clip))
        os._exit(0)
    assert receive.poll(30) and receive.recv() == NUMBERS.tolist()
    os.waitpid(child, 0)


@pytest.mark.parametrize("member", MEMBERS)
def test_frames_that_do_not_fit_into_one_batch_are_those_of_one(
    member: str, clip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    times, numbers = clip_times(clip), np.array([0, 1, 1, 5, 6, 7, 20, 23])
    whole = list(reader(member).frames(clip, times, numbers, SIZE))
    monkeypatch.setattr("curate.media.readers.base.MAX_BATCH_BYTES", 3 * 3 * SIZE[0] * SIZE[1])
    parts = list(reader(member).frames(clip, times, numbers, SIZE))
    np.testing.assert_array_equal(whole, parts)


def test_keys_have_the_reader_and_those_of_pyav_stay() -> None:
    asked = CaptionConfig(backend=OpenAiConfig(base_url="http://localhost:1/v1", model="any"))

    def keys(media: MediaConfig | None) -> tuple[object, ...]:
        captions = asked if media is None else asked.read_by(media)
        scores = ScoreStage(ScoreConfig(scorers={"static_overlay": StaticOverlayConfig()}), media=media)
        latents = EncodeStage(EncodeConfig(), "", media=media).fingerprint_record()["fingerprint"]
        return tuple(scores.families), captions.family, latents

    before = keys(None)
    assert keys(MediaConfig()) == keys(MediaConfig(reader="pyav")) == before
    others = [before, *(keys(MediaConfig.model_validate({"reader": member})) for member in MEMBERS)]
    for one in zip(*others, strict=True):
        assert len(set(one)) == len(others)
    assert asked.family != asked.read_by(MediaConfig(reader="decord")).family  # which was asked for its key before
    cuda = MediaConfig(reader="torchcodec", device="cuda").build().key
    assert cuda != MediaConfig(reader="torchcodec").build().key


def test_a_reader_that_does_not_load_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torchcodec").mkdir()
    (tmp_path / "torchcodec/__init__.py").write_text("raise RuntimeError('Could not load libtorchcodec')")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchcodec"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ValueError, match=r"does not load.*FFmpeg's shared libraries.*media.reader=pyav"):
        MediaConfig(reader="torchcodec").build().setup()


def test_a_machine_for_which_decord_has_no_wheel_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "decord", None)
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(ValueError, match=r"no wheel for aarch64; expected media\.reader=pyav or torchcodec"):
        MediaConfig(reader="decord").build().setup()


def test_a_device_is_torchcodec_s_alone() -> None:
    with pytest.raises(ValueError, match="pyav decodes on the CPU; expected reader=torchcodec"):
        MediaConfig(reader="pyav", device="cuda")


def test_cuda_is_refused_where_there_is_none() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    reader("torchcodec")
    with pytest.raises(ValueError, match=r"media\.device=cuda: torch finds no CUDA device"):
        MediaConfig(reader="torchcodec", device="cuda").build().setup()


@pytest.mark.gpu
def test_nvdec_gives_the_frames_of_pyav(clip: bytes) -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    frames = MediaConfig(reader="torchcodec", device="cuda").build()
    frames.setup()
    reading = frames.frames(clip, clip_times(clip), NUMBERS, SIZE)
    rgb = np.stack(list(reading))
    assert reading.fallback is None
    assert NumberedFrames().read(rgb) == NUMBERS.tolist()
    wanted = np.stack(list(clip_frames(clip, clip_times(clip), NUMBERS, SIZE)))
    assert np.abs(rgb.astype(int) - wanted).mean() <= 3.5
