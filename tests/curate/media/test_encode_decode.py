from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from curate.media.cut import CutConfig, cut_clip
from curate.media.decode import decode_clip
from curate.media.encode import encode_mp4
from curate.media.probe import probe
from curate.media.still import STILL_SPAN
from curate.schema import MediaError, Span


def test_encoding_keeps_colors_and_is_deterministic() -> None:
    colors = np.array([(200, 40, 60), (30, 180, 90), (128, 128, 128), (255, 255, 255), (0, 0, 0)], np.uint8)
    rgb = np.repeat(np.repeat(colors[:, None, None], 64, axis=1), 80, axis=2)
    data = encode_mp4(rgb, 24)
    assert data == encode_mp4(rgb.copy(), 24)
    decoded = decode_clip(data)
    assert decoded.rgb.shape == rgb.shape
    assert np.abs(decoded.rgb.mean(axis=(1, 2)) - colors).max() < 4
    np.testing.assert_allclose(decoded.pts_s, np.arange(5) / 24, atol=1e-6)


@pytest.mark.parametrize("shape", [(0, 8, 8, 3), (2, 8, 8), (2, 1, 8, 3), (2, 8, 8, 4)])
def test_what_is_no_video_is_not_encoded(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="uint8"):
        encode_mp4(np.zeros(shape, np.uint8), 24)


def test_same_frames_are_cut_to_the_same_bytes(numbered, write_video: Callable[..., str]) -> None:
    path = write_video("a.mp4", numbered.draw(48))
    span = Span(start_pts=10 * 512, end_pts=40 * 512, time_base=probe(path, "", "").time_base)
    assert cut_clip(path, span, CutConfig()).data == cut_clip(path, span, CutConfig()).data


def test_cut_is_upright_even_and_square(numbered, write_video: Callable[..., str]) -> None:
    rgb = numbered.draw(8)[:, :95, :159]
    path = write_video(
        "a.mp4", rgb, rotation=90, sample_aspect_ratio=Fraction(3, 2), pixel_format="yuv444p", num_b_frames=0
    )
    span = Span(start_pts=0, end_pts=8 * 512, time_base=Fraction(1, 12288))
    clip = cut_clip(path, span, CutConfig(short_side_px=None))
    assert (clip.ext, clip.width, clip.height, clip.fps) == ("mp4", 96, 238, 24)
    assert decode_clip(clip.data).rgb.shape == (8, 238, 96, 3)


def test_image_becomes_one_frame_without_loss(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (33, 47, 3), dtype=np.uint8)
    Image.fromarray(rgb).save(tmp_path / "a.png")
    clip = cut_clip(str(tmp_path / "a.png"), STILL_SPAN, CutConfig())
    assert (clip.ext, clip.num_frames, clip.width, clip.height) == ("png", 1, 47, 33)
    decoded = decode_clip(clip.data)
    assert np.array_equal(decoded.rgb[0], rgb) and decoded.indices.tolist() == [0]
    assert decode_clip(clip.data, size=(16, 32), num_frames=8).rgb.shape == (1, 16, 32, 3)


@pytest.fixture
def clip(numbered) -> bytes:
    return encode_mp4(numbered.draw(33), 24)


def test_uniform_frames_are_the_middles_of_equal_parts(clip: bytes, numbered) -> None:
    decoded = decode_clip(clip, num_frames=4)
    assert decoded.indices.tolist() == numbered.read(decoded.rgb) == [4, 12, 20, 28]
    assert decode_clip(clip, num_frames=50).indices.tolist() == list(range(33))


def test_lower_rate_takes_the_frame_shown_at_each_tick(clip: bytes, numbered) -> None:
    decoded = decode_clip(clip, fps=12, max_frames=9, size=(48, 80))
    assert decoded.rgb.shape == (9, 48, 80, 3)
    assert decoded.indices.tolist() == numbered.read(decoded.rgb) == list(range(0, 17, 2))
    assert decode_clip(clip, fps=12).indices.tolist() == list(range(0, 33, 2))
    np.testing.assert_allclose(decode_clip(clip, fps=12).pts_s, np.arange(17) / 12, atol=1e-6)


def test_higher_rate_repeats_frames(clip: bytes, numbered) -> None:
    decoded = decode_clip(clip, fps=48, max_frames=5)
    assert decoded.indices.tolist() == numbered.read(decoded.rgb) == [0, 0, 1, 1, 2]


def test_irregular_clip_is_resampled_in_time(numbered, write_video: Callable[..., str]) -> None:
    starts_ms = [0, 40, 80, 500, 520, 1000]
    path = write_video("a.mp4", numbered.draw(6), pts=starts_ms, time_base=Fraction(1, 1000))
    decoded = decode_clip(Path(path).read_bytes(), fps=10)
    assert decoded.indices.tolist()[:10] == [0, 2, 2, 2, 2, 3, 4, 4, 4, 4]


def test_refusals(clip: bytes) -> None:
    for wrong in ({"num_frames": 0}, {"fps": 0.0}, {"max_frames": -1}, {"size": (0, 8)}):
        with pytest.raises(ValueError, match="positive"):
            decode_clip(clip, **wrong)
    with pytest.raises(MediaError):
        decode_clip(clip[: len(clip) // 2])
    with pytest.raises(MediaError):
        decode_clip(b"no clip at all")


STEPS_MS = {
    "constant": [40] * 40,
    "jittering": [20, 33, 34, 50, 33, 20, 66] * 6,
    "a long first": [2000, *([33] * 30)],
    "a long last": [*([33] * 30), 1500],
    "one": [40],
}


@pytest.mark.parametrize("steps_ms", STEPS_MS.values(), ids=STEPS_MS)
def test_readers_agree_on_how_long_a_cut_clip_is(
    numbered, write_video: Callable[..., str], steps_ms: list[int]
) -> None:
    starts = np.cumsum([0, *steps_ms]).tolist()
    path = write_video("a.mkv", numbered.draw(len(starts)), pts=starts, time_base=Fraction(1, 1000))
    span = Span(start_pts=0, end_pts=starts[-1], time_base=Fraction(1, 1000))
    clip = cut_clip(path, span, CutConfig())
    assert clip.duration_s == pytest.approx(starts[-1] / 1000) and clip.num_frames == len(steps_ms)
    cut = Path(path).with_suffix(".mp4")
    cut.write_bytes(clip.data)
    with av.open(str(cut)) as reader:
        stream = reader.streams.video[0]
        assert float(stream.duration * stream.time_base) == pytest.approx(clip.duration_s)
        assert reader.duration / 1e6 == pytest.approx(clip.duration_s, abs=1e-3)
        assert float(stream.average_rate) == pytest.approx(float(clip.fps), rel=1e-4)
    opened = cv2.VideoCapture(str(cut))
    assert opened.get(cv2.CAP_PROP_FPS) == pytest.approx(float(clip.fps), rel=1e-4)
    np.testing.assert_allclose(decode_clip(clip.data).pts_s, np.array(starts[:-1]) / 1000, atol=1e-3)
