import inspect
import io
import struct
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from curate.media.frames import iter_frames
from curate.media.geometry import RgbConverter, geometry
from curate.media.probe import content_id, probe
from curate.media.stream import VideoReader


def test_equal_bytes_have_equal_ids_under_any_name(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"same" * 1000)
    (tmp_path / "b.mkv").write_bytes(b"same" * 1000)
    (tmp_path / "c.mp4").write_bytes(b"same" * 999 + b"sane")
    ids = [content_id(str(tmp_path / name)) for name in ("a.mp4", "b.mkv", "c.mp4")]
    assert ids[0] == ids[1] != ids[2]


def test_probe_says_what_was_encoded(numbered, write_video: Callable[..., str]) -> None:
    path = write_video("a.mp4", numbered.draw(30), fps=Fraction(30000, 1001), with_sound=True)
    video = probe(path, "s3://bucket/a.mp4", "id")
    assert (video.uri, video.video_id, video.kind, video.codec) == ("s3://bucket/a.mp4", "id", "video", "h264")
    assert (video.width, video.height, video.fps, video.num_frames) == (160, 96, Fraction(30000, 1001), 30)
    assert video.has_audio and video.pixel_format == "yuv420p" and video.rotation == 0
    assert video.duration_s == pytest.approx(30 * 1001 / 30000, abs=0.05)
    assert video.size_bytes == Path(path).stat().st_size


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotation_is_applied_and_told(write_video: Callable[..., str], rotation: int) -> None:
    rgb = np.zeros((4, 96, 160, 3), np.uint8)
    rgb[:, :, :80] = (220, 30, 30)  # red on the left
    path = write_video("a.mp4", rgb, rotation=rotation)
    video = probe(path, "", "")
    assert (video.width, video.height) == ((160, 96) if rotation == 180 else (96, 160))
    frame = next(iter_frames(path, short_side_px=48)).rgb
    upright = np.rot90(rgb[0], video.rotation // 90)
    assert frame.shape[:2] == (upright.shape[0] // 2, upright.shape[1] // 2)
    # The display matrix turns counter-clockwise: what was on the left comes to the bottom, the right, the top.
    row, column = {90: (-4, 24), 180: (24, -4), 270: (4, 24)}[rotation]
    assert frame[row, column, 0] > 180 > 60 > frame[row, column, 1]


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_display_matrices_are_those_of_the_container(
    write_video: Callable[..., str], turns: int, mirrored: bool
) -> None:
    rgb = np.zeros((2, 96, 160, 3), np.uint8)
    rgb[:, :48, :80], rgb[:, 48:, :80], rgb[:, :48, 80:] = (220, 30, 30), (30, 220, 30), (30, 30, 220)
    path = write_video("a.mp4", rgb)
    # The four quarter turns of ISO/IEC 14496-12: (x, y) goes to (a x + c y, b x + d y), y downwards.
    a, b, c, d = [(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)][turns]
    if mirrored:
        a, b = -a, -b
    data = bytearray(Path(path).read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    data[place : place + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    Path(path).write_bytes(data)
    video = probe(path, "", "")
    frame = next(iter_frames(path, short_side_px=96)).rgb
    assert (video.width, video.height, video.mirrored) == (*frame.shape[1::-1], mirrored)
    rows, columns = np.mgrid[:96, :160]
    x, y = a * columns + c * rows, b * columns + d * rows
    expected = np.zeros_like(frame)
    expected[y - y.min(), x - x.min()] = rgb[0]
    inner = np.abs(expected.astype(int) - frame) < 12
    assert inner.mean() > 0.97


def test_pictures_that_carry_what_pyav_has_no_name_for(tmp_path: Path) -> None:
    """JPEG pictures with EXIF, as cameras film them."""
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[274] = 6
    Image.new("RGB", (64, 32)).save(buffer, "JPEG", exif=exif)
    with av.open(str(tmp_path / "a.mkv"), "w") as output:
        stream = output.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuvj420p"
        for number in range(3):
            packet = av.Packet(buffer.getvalue())
            packet.pts = packet.dts = number
            packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 10), stream, True
            output.mux(packet)
    video = probe(str(tmp_path / "a.mkv"), "", "")
    assert (video.width, video.height, video.rotation) == (32, 64, 270)


def test_samples_that_are_not_square_are_stretched(numbered, write_video: Callable[..., str]) -> None:
    path = write_video("a.mp4", numbered.draw(2), sample_aspect_ratio=Fraction(2, 1))
    video = probe(path, "", "")
    assert (video.width, video.height, video.sample_aspect_ratio) == (160, 96, 2)
    assert next(iter_frames(path, short_side_px=48)).rgb.shape == (48, 160, 3)


def test_photo_is_turned_upright(tmp_path: Path) -> None:
    rgb = np.zeros((96, 160, 3), np.uint8)
    rgb[:, :80] = (220, 30, 30)
    exif = Image.Exif()
    exif[274] = 6  # the top of the scene is on the picture's right: turn by 90 degrees clockwise
    Image.fromarray(rgb).save(tmp_path / "a.jpg", exif=exif, quality=95)
    video = probe(str(tmp_path / "a.jpg"), "", "")
    assert (video.kind, video.width, video.height) == ("image", 96, 160)
    frame = next(iter_frames(str(tmp_path / "a.jpg"), short_side_px=48)).rgb
    assert frame.shape == (80, 48, 3) and frame[4, 24, 0] > 180 > frame[-4, 24, 0]


@pytest.mark.parametrize("short_side_px", [64, 32])
@pytest.mark.parametrize("tag", ["bt601", "bt709"])
def test_colors_follow_the_matrix_of_the_stream(write_video: Callable[..., str], tag: str, short_side_px: int) -> None:
    """The same red through either matrix comes back as itself, also where the planes are scaled first."""
    import av

    red = np.full((2, 64, 64, 3), (200, 40, 60), np.uint8)
    frames = [av.VideoFrame.from_ndarray(picture, format="rgb24") for picture in red]
    path = write_video("plain.mp4", red) + f".{tag}.mp4"
    with av.open(path, "w") as output:
        stream = output.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.colorspace = {"bt601": 6, "bt709": 1}[tag]
        for number, frame in enumerate(frames):
            yuv = frame.reformat(format="yuv420p", dst_colorspace={"bt601": "ITU601", "bt709": "ITU709"}[tag])
            yuv.pts = number
            output.mux(stream.encode(yuv))
        output.mux(stream.encode())
    seen = next(iter_frames(path, short_side_px=short_side_px)).rgb.mean(axis=(0, 1))
    assert np.abs(seen - (200, 40, 60)).max() < 4


def test_planes_scaled_before_they_are_made_rgb_have_no_bias(write_video: Callable[..., str]) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(100, 156, (1, 40, 60, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    with VideoReader(write_video("noise.mp4", noise)) as reader:
        (frame,) = reader.frames(reader.stream_time_base)
        shape = geometry(frame.decoded)
        one, two = (
            RgbConverter(shape, (90, 60), in_two_steps=in_two_steps)(frame.image).astype(float)
            for in_two_steps in (False, True)
        )
    assert np.abs((one - two).mean(axis=(0, 1))).max() < 0.3
    assert np.abs(one - two).mean() < 4


def write_ramp(path: str, pixel_format: str, transfer: int, primaries: int) -> str:
    """Two frames that go from code value 0 on the left to the maximum on the right, in the BT.2020 matrix."""
    import av

    ramp = np.linspace(0, 2**16 - 1, 256).astype(np.uint16)[None, :, None].repeat(64, axis=0).repeat(3, axis=2)
    with av.open(path, "w") as output:
        stream = output.add_stream("libx265", rate=24)
        stream.width, stream.height, stream.pix_fmt = 256, 64, pixel_format
        stream.options = {"x265-params": "log-level=none", "crf": "4", "preset": "ultrafast"}
        stream.codec_context.color_trc, stream.codec_context.color_primaries = transfer, primaries
        stream.codec_context.colorspace, stream.codec_context.color_range = 9, 1
        for number in range(2):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(ramp), format="rgb48le")
            frame = frame.reformat(format=pixel_format, dst_colorspace=9, dst_color_range=1)
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("pixel_format", "bit_depth", "transfer", "primaries", "tags"),
    [
        ("yuv420p", 8, 1, 1, ("bt709", "bt709")),
        ("yuv420p10le", 10, 2, 2, ("", "")),
        ("yuv420p10le", 10, 18, 9, ("arib-std-b67", "bt2020")),
        ("yuv420p12le", 12, 16, 9, ("smpte2084", "bt2020")),
    ],
)
def test_depth_and_color_tags_are_told_and_brightness_is_sane(
    tmp_path: Path, pixel_format: str, bit_depth: int, transfer: int, primaries: int, tags: tuple[str, str]
) -> None:
    path = str(tmp_path / "a.mp4")
    # In a process of its own: what x265 was used for before in this one can make it write headers that FFmpeg refuses.
    call = f"write_ramp({path!r}, {pixel_format!r}, {transfer}, {primaries})"
    script = f"import numpy as np\n{inspect.getsource(write_ramp)}\n{call}"
    subprocess.run([sys.executable, "-c", script], check=True)
    video = probe(path, "", "")
    assert (video.bit_depth, video.color_transfer, video.color_primaries) == (bit_depth, *tags)
    shown = next(iter_frames(path, short_side_px=32)).rgb.mean(axis=(0, 2))
    assert (np.diff(shown) >= -1).all() and shown[0] < 6 and shown[-1] > 250
    if "smpte2084" in tags:
        assert shown[12] < 20, "a code value of 0.1 is a third of a nit: black"
        assert 105 < shown[51] < 120, "0.4 is 32 nits, a middle gray where white has 203"
        assert shown[96] > 250, "0.75 is the peak of the masters"
    else:
        assert np.abs(shown - np.linspace(0, 255, len(shown))).max() < 6


def test_interlacing_is_told(write_video: Callable[..., str], numbered) -> None:
    interlaced = {"options": {"x264-params": "tff=1", "crf": "12"}}
    assert probe(write_video("a.mp4", numbered.draw(4), **interlaced), "", "").interlaced
    assert not probe(write_video("b.mp4", numbered.draw(4)), "", "").interlaced


@pytest.mark.parametrize("codec", ["png", "prores_ks"])
def test_transparent_pictures_lie_on_black(tmp_path: Path, codec: str) -> None:
    rgba = np.full((2, 64, 96, 4), (200, 160, 120, 255), np.uint8)
    rgba[:, :, 48:, 3] = 0
    path = str(tmp_path / "a.mov")
    with av.open(path, "w") as output:
        stream = output.add_stream(codec, rate=24)
        stream.width, stream.height = 96, 64
        stream.pix_fmt = "rgba" if codec == "png" else "yuva444p10le"
        for number, picture in enumerate(rgba):
            frame = av.VideoFrame.from_ndarray(picture, format="rgba")
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    rgb = next(iter_frames(path, short_side_px=64)).rgb.astype(int)
    assert np.abs(rgb[32, 8] - (200, 160, 120)).max() < 6
    assert rgb[32, 88].max() < 6
