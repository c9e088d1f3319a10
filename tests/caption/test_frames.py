"""Which frames a captioner is shown, on clips whose structure is known."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from caption.frames import FramesConfig, WindowFrames, windows_of
from curate.media import decode
from curate.media.decode import decode_clip
from curate.media.encode import encode_mp4
from curate.media.still import encode_png

FPS = 10
HEIGHT, WIDTH = 48, 64


def colors(*parts: tuple[int, int]) -> np.ndarray:
    """(gray level, frames) each, (T, H, W, 3) uint8."""
    levels = np.repeat([level for level, _ in parts], [count for _, count in parts]).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (len(levels), HEIGHT, WIDTH, 3))


def sliding(speeds: np.ndarray) -> np.ndarray:
    """A texture that moves by `speeds[t]` px before frame t."""
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 256, (HEIGHT // 8, 200, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    return np.stack([wide[:, at : at + WIDTH] for at in np.cumsum(speeds)])


def shown(frames: np.ndarray, attempt: int = 1, **settings: object) -> list[WindowFrames]:
    return windows_of(encode_mp4(frames, FPS), FramesConfig(**settings), attempt=attempt)


SAMPLINGS = ("uniform", "scene", "motion")


@pytest.mark.parametrize("num_frames", [1, 3, 4, 40])
def test_uniform_frames_are_those_of_decode_clip(num_frames: int) -> None:
    data = encode_mp4(sliding(np.full(23, 2)), FPS)
    (window,) = windows_of(data, FramesConfig(num_frames=num_frames))
    expected = decode_clip(data, num_frames=num_frames)
    assert window.indices.tolist() == expected.indices.tolist() and window.pts_s.tolist() == expected.pts_s.tolist()
    np.testing.assert_array_equal(window.rgb, expected.rgb)
    assert (window.start_s, window.end_s) == (0, 2.3)


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("length", [1, 2, 5, 150])
def test_each_frame_is_shown_once_in_order_of_time(sampling: str, length: int) -> None:
    frames = sliding(np.arange(length) % 3)
    for attempt in (1, 2, 3):
        (window,) = shown(frames, attempt, sampling=sampling, num_frames=4)
        assert len(window.indices) == min(length, 4 if attempt == 1 else 8) == len(window.rgb)
        assert (np.diff(window.indices) > 0).all() and window.indices[0] >= 0 and window.indices[-1] < length
        np.testing.assert_allclose(window.pts_s, window.indices / FPS)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_another_attempt_shows_twice_as_many_frames_and_no_earlier_one(sampling: str) -> None:
    frames = sliding(np.arange(60) % 4)
    seen = [set(shown(frames, attempt, sampling=sampling)[0].indices.tolist()) for attempt in (1, 2, 3)]
    assert [len(indices) for indices in seen] == [4, 8, 8]
    assert len(set.union(*seen)) == 20


def test_scene_sampling_sees_each_part_however_short() -> None:
    frames = colors((20, 70), (120, 4), (230, 26))
    for num_frames in (3, 4):
        (window,) = shown(frames, sampling="scene", num_frames=num_frames)
        levels = np.round(window.rgb.mean(axis=(1, 2, 3)))
        assert {min((20, 120, 230), key=lambda known: abs(known - level)) for level in levels} == {20, 120, 230}
    assert not any(70 <= index < 74 for index in shown(frames, num_frames=4)[0].indices)  # uniform frames miss it


def test_motion_sampling_follows_the_motion() -> None:
    speeds = np.zeros(100, int)
    speeds[60:70] = 4
    (window,) = shown(sliding(speeds), sampling="motion", num_frames=6)
    assert sum(58 <= index <= 71 for index in window.indices) >= 4
    (window,) = shown(sliding(np.full(100, 1)), sampling="motion", num_frames=4)
    np.testing.assert_allclose(window.indices, [12, 37, 62, 87], atol=3)


def test_a_cut_is_no_motion() -> None:
    moving = sliding(np.full(60, 2))
    cut = np.concatenate([moving[:30], 255 - moving[30:]])
    (window,) = shown(cut, sampling="motion", num_frames=6)
    assert sum(28 <= index <= 31 for index in window.indices) <= 2


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_frames_of_a_clip_that_does_not_change_are_spread_evenly(sampling: str) -> None:
    (window,) = shown(colors((90, 80)), sampling=sampling, num_frames=4)
    np.testing.assert_allclose(window.indices, [10, 30, 50, 70], atol=2)


@pytest.mark.parametrize(
    ("window_s", "count"), [(None, 1), (10.0, 1), (4.0, 1), (3.9, 2), (2.0, 2), (1.5, 3), (0.5, 8)]
)
def test_windows_are_equal_and_cover_the_clip(window_s: float | None, count: int) -> None:
    windows = shown(colors((90, 40)), window_s=window_s, num_frames=2)
    assert len(windows) == count and windows[0].start_s == 0 and windows[-1].end_s == 4
    assert all(before.end_s == after.start_s for before, after in pairwise(windows))
    np.testing.assert_allclose([window.end_s - window.start_s for window in windows], 4 / count)
    for window in windows:
        assert len(window.indices) == 2
        assert all(window.start_s - 1e-9 <= at < window.end_s for at in window.pts_s)


def test_each_window_shows_its_own_frames() -> None:
    windows = shown(colors((20, 10), (120, 10), (230, 10)), window_s=1.0, num_frames=3)
    assert [round(float(window.rgb.mean()) / 10) for window in windows] == [2, 12, 23]


def test_a_window_in_which_no_frame_begins_shows_the_one_before() -> None:
    windows = windows_of(encode_mp4(colors((20, 1), (230, 1)), Fraction(1, 2)), FramesConfig(window_s=1))
    assert [window.indices.tolist() for window in windows] == [[0], [0], [1], [1]]


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_frames_keep_to_the_budget_of_pixels_and_to_their_shape(sampling: str) -> None:
    frames = sliding(np.full(40, 1))
    for attempt, num_frames in ((1, 4), (2, 8)):
        (window,) = shown(frames, attempt, sampling=sampling, max_pixels=4000)
        count, height, width, _ = window.rgb.shape
        assert count == num_frames and 0.85 * 4000 <= count * height * width <= 4000
        assert height / width == pytest.approx(HEIGHT / WIDTH, rel=0.1)
    assert shown(frames, max_pixels=10**6)[0].rgb.shape == (4, HEIGHT, WIDTH, 3)  # nothing is enlarged


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_a_still_image_is_one_frame_of_one_window(sampling: str) -> None:
    image = sliding(np.zeros(1, int))[0]
    (window,) = windows_of(encode_png(image), FramesConfig(sampling=sampling, window_s=0.2), attempt=2)
    np.testing.assert_array_equal(window.rgb, image[None])


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_full_size_images_are_made_of_the_shown_frames_alone(sampling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    convert = decode.RgbConverter.__call__

    def counted(self: decode.RgbConverter, *given: object) -> np.ndarray:
        rgb = convert(self, *given)  # type: ignore[arg-type]
        made.append(rgb.size)
        return rgb

    monkeypatch.setattr(decode.RgbConverter, "__call__", counted)
    shown(sliding(np.full(240, 1)), sampling=sampling)
    assert sum(size == HEIGHT * WIDTH * 3 for size in made) == 4
    assert len(made) == (4 if sampling == "uniform" else 132)


def test_attempts_count_from_one() -> None:
    with pytest.raises(ValueError, match="from 1 on, got 0"):
        windows_of(b"", FramesConfig(), attempt=0)
