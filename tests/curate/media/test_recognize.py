"""Which files of a folder are tried."""

import io

import av
import numpy as np
import pytest
from PIL import Image

from curate.media.recognize import MEDIA_ENDINGS, NUM_BYTES, OTHER_ENDINGS, may_be_media

FORMATS = {
    "mp4": "libx264", "matroska": "libx264", "mpegts": "libx264", "avi": "libx264", "flv": "libx264", "asf": "mpeg4",
    "mpeg": "mpeg2video", "ogg": "libtheora", "mxf": "mpeg2video", "ivf": "libvpx-vp9", "webm": "libvpx-vp9",
    "nut": "mpeg4", "h264": "libx264", "gif": "gif",
}  # fmt: skip


def film(format_name: str, codec: str) -> bytes:
    file = io.BytesIO()
    file.name = f"film.{format_name}"
    try:
        with av.open(file, "w", format=format_name) as container:
            stream = container.add_stream(codec, rate=25)
            stream.width, stream.height = 64, 48
            stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
            for level in (0, 90, 180):
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8), "rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    except (av.FFmpegError, ValueError) as error:
        pytest.skip(f"this FFmpeg writes no {format_name}: {error}")
    return file.getvalue()


@pytest.mark.parametrize("format_name", FORMATS)
def test_films_without_an_ending_are_known_by_their_first_bytes(format_name: str) -> None:
    data = film(format_name, FORMATS[format_name])
    assert may_be_media("0a1b2c", lambda: data[:NUM_BYTES])


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "JPEG2000"])
def test_pictures_without_an_ending_are_known_too(format_name: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (32, 24)).save(file, format_name)
    assert may_be_media("0a1b2c", lambda: file.getvalue()[:NUM_BYTES])


@pytest.mark.parametrize("data", [b"", b"words", b"GNU GENERAL PUBLIC LICENSE " * 20, b"{}", b"SQLite format 3\0"])
def test_others_are_left_out(data: bytes) -> None:
    assert not may_be_media("thing", lambda: data[:NUM_BYTES])


def test_an_ending_that_says_something_reads_nothing() -> None:
    def read() -> bytes:
        raise AssertionError("it was read")

    assert may_be_media("/films/A.MP4", read)
    assert not may_be_media("/films/README.txt", read)
    assert MEDIA_ENDINGS.isdisjoint(OTHER_ENDINGS)


def test_what_cannot_be_read_is_for_the_scan() -> None:
    def read() -> bytes:
        raise PermissionError("not yours")

    assert may_be_media("thing", read)
