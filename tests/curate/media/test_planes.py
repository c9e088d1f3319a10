"""Pixels that need no change are the source's, and others get their colors right."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest

from curate.media.codecs import EncodeConfig
from curate.media.cut import CutConfig, cut_clip
from curate.media.decode import decode_clip
from curate.media.encode import Mp4Encoder
from curate.media.frames import iter_frames
from curate.media.planes import BT709, FULL_RANGE, Coding
from curate.schema import Span

NUM_FRAMES = 6
TIME_BASE = Fraction(1, 12)
SPAN = Span(start_pts=0, end_pts=NUM_FRAMES * 1024, time_base=Fraction(1, 12288))
UNKNOWN = replace(BT709, matrix=2, primaries=2, transfer=2)
PAL = replace(BT709, matrix=5, primaries=5, transfer=6)
FULL = replace(PAL, pixel_format="yuvj420p", range=FULL_RANGE)
SIZE = (64, 96)
OTHER_FORMATS = ("yuv444p", "yuv420p10le")
CODINGS = {
    "BT.709": (BT709, BT709, SIZE),
    "PAL": (PAL, PAL, SIZE),
    "full range": (FULL, FULL, SIZE),
    "no tags, few lines": (UNKNOWN, replace(UNKNOWN, matrix=5), SIZE),
    "no tags, many lines": (UNKNOWN, replace(UNKNOWN, matrix=1), (720, 720)),
}


def pictures(size: tuple[int, int] = SIZE) -> np.ndarray:
    """`(T, height, width, 3)` uint8: saturated colors that change."""
    rng = np.random.default_rng(0)
    cells = rng.integers(0, 256, (NUM_FRAMES, size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    return cells.repeat(8, axis=1).repeat(8, axis=2)


def source(path: Path, coding: Coding, size: tuple[int, int] = SIZE) -> str:
    encoder = Mp4Encoder(EncodeConfig(crf=4), size=size, fps=1 / TIME_BASE, time_base=TIME_BASE, coding=coding)
    for number, picture in enumerate(pictures(size)):
        encoder.add(picture, pts=number, duration=1)
    path.write_bytes(encoder.finish())
    return str(path)


def planes(file: "str | BytesIO") -> tuple[np.ndarray, Coding]:
    with av.open(file) as container:
        frames = list(container.decode(video=0))
    first = frames[0]
    found = Coding(
        pixel_format=first.format.name,
        matrix=int(first.colorspace),
        primaries=int(first.color_primaries),
        transfer=int(first.color_trc),
        range=int(first.color_range),
    )
    return np.stack([frame.to_ndarray() for frame in frames]), found


@pytest.mark.parametrize(("given", "expected", "size"), CODINGS.values(), ids=CODINGS)
def test_pixels_that_need_no_change_stay_with_their_tags(
    given: Coding, expected: Coding, size: tuple[int, int], tmp_path: Path
) -> None:
    path = source(tmp_path / "a.mp4", given, size)
    clip = cut_clip(path, SPAN, CutConfig(crf=0))  # without loss
    before, _ = planes(path)
    after, coding = planes(BytesIO(clip.data))
    assert np.array_equal(before, after)
    assert coding == expected
    shown = np.stack([frame.rgb for frame in iter_frames(path, short_side_px=size[1])])
    assert np.array_equal(decode_clip(clip.data).rgb, shown), "every reader of reelpack's shows the same colors"


@pytest.mark.parametrize(
    "other",
    [{"rotation": 90}, {"sample_aspect_ratio": Fraction(4, 3)}, *({"pixel_format": name} for name in OTHER_FORMATS)],
    ids=str,
)
def test_other_pixels_become_bt_709(other: dict, write_video: Callable[..., str]) -> None:
    path = write_video("a.mp4", pictures(), fps=Fraction(12), num_b_frames=0, **other)
    clip = cut_clip(path, SPAN, CutConfig(crf=0))
    assert planes(BytesIO(clip.data))[1] == BT709
    shown = np.stack([frame.rgb for frame in iter_frames(path, short_side_px=96)])
    if "sample_aspect_ratio" not in other:  # there, two ways of enlarging
        # Colors of edges lose half their resolution.
        assert np.abs(decode_clip(clip.data).rgb.astype(int) - shown).mean() < 8


def test_colors_of_a_stream_that_changes_its_tags_stay(tmp_path: Path) -> None:
    """A clip has one coding: what follows the first frame in another is converted to it."""
    data = [Path(source(tmp_path / f"{n}.mp4", coding)) for n, coding in enumerate((PAL, BT709))]
    with av.open(str(tmp_path / "joined.h264"), "w", format="h264") as joined:
        stream = joined.add_stream("libx264")
        for path in data:
            with av.open(str(path)) as container:
                bits = av.BitStreamFilterContext("h264_mp4toannexb", container.streams.video[0])
                for packet in container.demux(video=0):
                    for out in bits.filter(packet if packet.size else None):
                        out.stream = stream
                        joined.mux_one(out)
    path = str(tmp_path / "joined.h264")
    with av.open(path) as container:
        assert {int(frame.colorspace) for frame in container.decode(video=0)} == {1, 5}
    time_base = Fraction(1, 25000)
    span = Span(start_pts=0, end_pts=2 * NUM_FRAMES * 1000, time_base=time_base)
    clip = cut_clip(path, span, CutConfig(crf=0))
    shown = np.stack([frame.rgb for frame in iter_frames(path, short_side_px=96, time_base=time_base)])
    assert clip.num_frames == len(shown) == 2 * NUM_FRAMES
    cells = (slice(None), slice(2, None, 8), slice(2, None, 8))  # inside of the cells, away from edges
    assert np.abs(decode_clip(clip.data).rgb[cells].astype(int) - shown[cells]).mean() < 3


@pytest.mark.parametrize("size", [(34, 18), (98, 62), (320, 180)], ids=str)
def test_equal_pixels_give_equal_bytes_at_any_size(size: tuple[int, int]) -> None:
    width, height = size
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (height + 64, width + 64, 3), dtype=np.uint8)
    moving = [np.ascontiguousarray(picture[n : n + height, 2 * n : 2 * n + width]) for n in range(24)]
    found = set()
    for _ in range(4):
        litter = [np.full(rng.integers(1, 10**6), rng.integers(256), np.uint8) for _ in range(4)]
        del litter  # memory that is not as it was
        encoder = Mp4Encoder(EncodeConfig(), size=size, fps=1 / TIME_BASE, time_base=TIME_BASE)
        for number, rgb in enumerate(moving):
            encoder.add(rgb, pts=number, duration=1)
        found.add(encoder.finish())
    assert len(found) == 1
