"""Which of a file's video streams is taken, and how it is recorded."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition

from curate.media.cut import CutConfig, cut_clip
from curate.media.probe import probe
from curate.schema import Span

FILM, PROXY = (160, 96), (80, 48)


def write(path: Path, *tracks: tuple[str, tuple[int, int], int, Disposition], container: str | None = None) -> str:
    """A file with video tracks of (codec, size, frames, disposition) at 25 frames/s."""
    with av.open(str(path), "w", format=container) as output:
        streams: list[Any] = []
        for codec, (width, height), _, disposition in tracks:
            stream: Any = output.add_stream(codec, rate=25)
            stream.width, stream.height = width, height
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            stream.disposition = disposition
            streams.append(stream)
        for stream, (_, (width, height), count, _) in zip(streams, tracks, strict=True):
            for number in range(count):
                frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), number * 5, np.uint8), format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                output.mux(stream.encode(frame))
            output.mux(stream.encode())
    return str(path)


NONE, DEFAULT = Disposition(0), Disposition.default
H264_FILM, H264_PROXY = ("libx264", FILM, 30, NONE), ("libx264", PROXY, 30, NONE)
THUMBNAIL = ("mjpeg", PROXY, 1, DEFAULT)
CASES = {
    "a thumbnail that is marked as default, then the film": (THUMBNAIL, H264_FILM),
    "a proxy, then the film, which is marked": (H264_PROXY, ("libx264", FILM, 30, DEFAULT)),
    "the marked track, though it is smaller": (("libx264", FILM, 30, DEFAULT), ("libx264", (320, 192), 30, NONE)),
    "the longer of two": (("libx264", PROXY, 12, DEFAULT), H264_FILM),
    "the longer of two that are marked, though smaller": (
        ("libx264", (320, 192), 20, DEFAULT),
        ("libx264", FILM, 30, DEFAULT),
    ),
    "the larger of two of one length": (("libx264", PROXY, 30, DEFAULT), ("libx264", FILM, 30, DEFAULT)),
    "the first of two of one length and size": (H264_FILM, ("libx264", FILM, 30, NONE)),
}


@pytest.mark.parametrize("container", ["mp4", "matroska"])
@pytest.mark.parametrize("name", CASES)
def test_the_film_is_taken_and_recorded(tmp_path: Path, name: str, container: str) -> None:
    tracks = CASES[name]
    path = write(tmp_path / "a.bin", *tracks, container=container)
    video = probe(path, "", "")
    wanted = max(range(len(tracks)), key=lambda row: (tracks[row][1] == FILM, -row))
    assert (video.width, video.height) == FILM
    assert (video.video_stream, video.num_video_streams) == (wanted, len(tracks))
    clip = cut_clip(path, Span(start_pts=0, end_pts=10**9, time_base=video.time_base), CutConfig())
    assert (clip.width, clip.height, clip.num_frames) == (*FILM, 30)


@pytest.mark.parametrize(("container", "codec"), [("live", "mjpeg"), ("live", "mpeg2video"), ("mpegts", "mpeg2video")])
def test_a_picture_is_no_film_where_no_lengths_are_declared(tmp_path: Path, container: str, codec: str) -> None:
    picture = (codec, (320, 192), 1, NONE)
    path = write(tmp_path / "a.bin", picture, H264_FILM, container={"live": "matroska"}.get(container, container))
    if container == "live":
        data = Path(path).read_bytes()
        assert data.count(b"DURATION") == 2
        Path(path).write_bytes(data.replace(b"DURATION", b"ORIGINAL"))
    video = probe(path, "", "")
    assert ((video.width, video.height), video.video_stream) == (FILM, 1)


def test_the_film_of_several_programs_is_the_largest(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ts", H264_PROXY, H264_FILM, H264_PROXY, container="mpegts")
    video = probe(path, "", "")
    assert ((video.width, video.height), video.video_stream, video.num_video_streams) == (FILM, 1, 3)


def test_a_cover_is_no_film(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", ("mjpeg", (640, 480), 1, Disposition.attached_pic), H264_FILM)
    assert probe(path, "", "").video_stream == 1
