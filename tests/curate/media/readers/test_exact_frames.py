"""The contract of readers: of every kind of file, the frames that PyAV gives, whoever decodes them."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.media.codecs import EncodeConfig
from curate.media.decode import clip_frames, clip_times
from curate.media.encode import encode_mp4
from curate.media.readers.config import MediaConfig
from curate.media.readers.frames import FrameReader
from curate.media.sample import sample_frames
from curate.schema import Span
from tests.support.numbered import NumberedFrames, encode
from tests.support.readers import MEMBERS, reader

NUM_FRAMES = 40
TOLERANCE_LEVELS = 3.5
"""Of 255: by how much a frame may differ from PyAV's in the mean. Hard edges are scaled by other filters, and a frame
that is made RGB before it is scaled is up to 2.5 levels brighter in red and blue. Frames of films: see
docs/decisions/readers.md."""

IRREGULAR = np.cumsum(np.random.default_rng(0).integers(20, 90, NUM_FRAMES)).tolist()
FAST = {"preset": "ultrafast", "crf": "16"}
BOTH = frozenset({"decord", "torchcodec"})
NONE: frozenset[str] = frozenset()


def h264(params: str, **encoding: Any) -> dict[str, Any]:
    return {"options": {"crf": "12", "x264-params": params}, **encoding}


def hevc(params: str = "", **encoding: Any) -> dict[str, Any]:
    options = {**FAST, "x265-params": f"log-level=none:keyint=12:{params}"}
    return {"codec": "libx265", "num_b_frames": None, "options": options, **encoding}


# How a file is made, and which members read it themselves.
FILES: dict[str, tuple[dict[str, Any], frozenset[str]]] = {
    "no_b_frames.mp4": ({"num_b_frames": 0}, BOTH),
    "b_pyramid.mp4": (h264("bframes=3:b-pyramid=normal:keyint=15:scenecut=0", num_b_frames=3), BOTH),
    "one_key_frame.mp4": ({"gop": 1000}, BOTH),
    "open_gop.mp4": (h264("open-gop=1:bframes=3:keyint=15:scenecut=0"), BOTH - {"decord"}),
    "late_start.mp4": ({"pts": [37 + number for number in range(NUM_FRAMES)]}, BOTH),
    "negative_start.mkv": ({"pts": [number - 10 for number in range(NUM_FRAMES)]}, BOTH),
    "edit_list.mp4": ({"pts": [number - 10 for number in range(NUM_FRAMES)]}, NONE),
    "irregular.mp4": ({"pts": IRREGULAR, "time_base": Fraction(1, 1000)}, BOTH),
    "irregular.mkv": ({"pts": IRREGULAR, "time_base": Fraction(1, 1000)}, BOTH),
    "ntsc.mov": ({"fps": Fraction(30000, 1001)}, BOTH),
    "h264.ts": ({"container": "mpegts"}, NONE),
    "mpeg4_b_frames.avi": ({"codec": "mpeg4"}, NONE),
    "h264.flv": ({"container": "flv"}, NONE),
    "mpeg4.mp4": ({"codec": "mpeg4"}, NONE),
    "hevc_open_gop.mp4": (hevc(), BOTH - {"decord"}),
    "hevc_closed_gop.mp4": (hevc("open-gop=0"), BOTH),
    "hevc_10_bits.mp4": (hevc("open-gop=0", pixel_format="yuv420p10le"), BOTH),
    "vp9.webm": (
        {"codec": "libvpx-vp9", "num_b_frames": None, "options": {"deadline": "good", "cpu-used": "5", "b": "2M"}},
        BOTH,
    ),
    "av1.mp4": ({"codec": "libsvtav1", "num_b_frames": None, "options": {"preset": "12"}}, BOTH - {"decord"}),
    "4_4_4_odd_sides.mp4": ({"pixel_format": "yuv444p"}, BOTH),
    "full_range.mp4": ({"pixel_format": "yuvj420p"}, BOTH),
    "bt709.mp4": (h264("colormatrix=bt709"), BOTH),
    "bt601.mp4": (h264("colormatrix=smpte170m"), BOTH),
    "bt2020.mp4": (h264("colormatrix=bt2020nc"), BOTH),
    "pq.mp4": (hevc("open-gop=0:transfer=smpte2084:colormatrix=bt2020nc", pixel_format="yuv420p10le"), NONE),
    "hlg.mp4": (
        hevc("open-gop=0:transfer=arib-std-b67:colormatrix=bt2020nc", pixel_format="yuv420p10le"),
        BOTH,
    ),
    "interlaced.mp4": (h264("tff=1"), NONE),
    "quarter_turn.mp4": ({"rotation": 90}, BOTH - {"decord"}),
    "half_turn.mp4": ({"rotation": 180}, BOTH - {"decord"}),
    "three_quarter_turn.mp4": ({"rotation": -90}, BOTH - {"decord"}),
    "wide_pixels.mp4": ({"sample_aspect_ratio": Fraction(4, 3)}, BOTH),
    "tall_pixels.mp4": ({"sample_aspect_ratio": Fraction(3, 4)}, BOTH),
    "alpha.mov": ({"codec": "prores_ks", "num_b_frames": None, "pixel_format": "yuva444p10le"}, NONE),
    "one_frame.mp4": ({}, BOTH),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Name of a file → its path."""
    folder = tmp_path_factory.mktemp("readers")

    def path(name: str) -> str:
        if not (folder / name).exists():
            encode(folder / name, pictures(name), **FILES[name][0])
        return str(folder / name)

    return path


def pictures(name: str) -> np.ndarray:
    """Numbers above, a colored ramp that moves below."""
    size = (161, 97) if "odd" in name else (160, 96)
    frames = NumberedFrames(*size).draw(1 if name == "one_frame.mp4" else NUM_FRAMES) if size == (160, 96) else None
    if frames is None:
        frames = np.pad(NumberedFrames().draw(NUM_FRAMES), ((0, 0), (0, 1), (0, 1), (0, 0)), mode="edge")
    height, width = frames.shape[1:3]
    ramp = np.linspace(0, 255, width)
    for number, frame in enumerate(frames):
        frame[height // 2 :] = np.stack([np.roll(ramp, 3 * number), ramp, ramp[::-1]], axis=-1)
    return frames


def assert_like(rgb: np.ndarray, wanted: np.ndarray) -> None:
    assert rgb.shape == wanted.shape and rgb.dtype == wanted.dtype == np.uint8
    off = float(np.abs(rgb.astype(int) - wanted).mean((1, 2, 3)).max())
    assert off <= TOLERANCE_LEVELS


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("name", FILES)
def test_frames_of_bytes_are_pyav_s(name: str, member: str, made: Callable[[str], str]) -> None:
    data = Path(made(name)).read_bytes()
    times = clip_times(data)
    numbers = np.sort(np.random.default_rng(0).integers(0, len(times.pts), 12))

    def smaller(height: int, width: int) -> tuple[int, int]:
        return height * 3 // 4, width * 3 // 4

    reading = reader(member).frames(data, times, numbers, smaller)
    assert_like(np.stack(list(reading)), np.stack(list(clip_frames(data, times, numbers, smaller))))
    assert (reading.fallback is None) == (member in FILES[name][1]), reading.fallback
    in_full = np.stack(list(reader(member).frames(data, times, numbers[-2:])))
    assert_like(in_full, np.stack(list(clip_frames(data, times, numbers[-2:]))))


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("name", FILES)
def test_samples_of_files_are_pyav_s(name: str, member: str, made: Callable[[str], str]) -> None:
    path = made(name)
    times, frames = clip_times(path), reader(member)
    start, end = int(times.pts[0]), times.end_pts
    spans = [(start, end), (start + (end - start) // 3, end - (end - start) // 5)]
    for first, last in spans:
        span = Span(start_pts=first, end_pts=max(last, first + 1), time_base=times.time_base)
        sampled, _ = frames.sample(path, span, 5, short_side_px=72)
        wanted = sample_frames(path, span, 5, short_side_px=72)
        assert sampled.pts.tolist() == wanted.pts.tolist()
        assert_like(sampled.rgb, wanted.rgb)


@pytest.mark.parametrize("member", MEMBERS)
def test_a_large_picture_without_a_named_matrix_has_pyav_s_colors(member: str, tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 1280).astype(np.uint8)
    rgb = np.broadcast_to(np.stack([ramp, 255 - ramp, ramp // 2], axis=-1), (3, 720, 1280, 3))
    encode(tmp_path / "large.mp4", np.ascontiguousarray(rgb), options=FAST)
    data = (tmp_path / "large.mp4").read_bytes()
    times, numbers = clip_times(data), np.arange(3)
    reading = reader(member).frames(data, times, numbers, (72, 128))
    assert_like(np.stack(list(reading)), np.stack(list(clip_frames(data, times, numbers, (72, 128)))))
    assert reading.fallback == "it names no color matrix"


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("codec", ["x264", "x265", "av1"])
def test_clips_of_shards_are_read_by_the_member_where_it_knows_the_codec(member: str, codec: Any) -> None:
    data = encode_mp4(pictures("clip"), 24, EncodeConfig(codec=codec, gop_frames=12))
    times, numbers = clip_times(data), np.array([0, 5, 5, 13, 29, NUM_FRAMES - 1])
    reading = reader(member).frames(data, times, numbers, (64, 106))
    rgb = np.stack(list(reading))
    assert_like(rgb, np.stack(list(clip_frames(data, times, numbers, (64, 106)))))
    assert NumberedFrames().read(rgb) == numbers.tolist()
    assert (reading.fallback is None) == (member == "torchcodec" or codec == "x264")


def test_every_reader_that_can_be_chosen_has_a_test() -> None:
    choices = MediaConfig.model_json_schema()["properties"]["reader"]["enum"]
    assert {*choices} == {"auto", "pyav", *BOTH}
    assert all(isinstance(MediaConfig(reader=choice).build(), FrameReader) for choice in choices)
