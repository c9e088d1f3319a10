"""What may be opened is fixed before libav looks at the data: no other file is read, nothing listens."""

import itertools
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from curate.media import stream
from curate.media.clock import counted_time_base
from curate.media.cut import CutConfig, cut_clip
from curate.media.decode import decode_clip
from curate.media.frames import iter_frames
from curate.media.limits import READ_LIMIT_S
from curate.media.opening import FORMAT_WHITELIST, NO_PROTOCOL
from curate.media.probe import probe
from curate.media.sample import sample_frames
from curate.media.stream import VideoReader
from curate.schema import FailureKind, MediaError, Span

LISTS = {
    "concat": "ffconcat version 1.0\nfile other.mp4\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nother.mp4\n#EXT-X-ENDLIST\n",
    "dash": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"></MPD>\n',
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=none\nc=IN IP4 127.0.0.1\nt=0 0\n",
    "text": "a text is a video of a terminal to some\n" * 40,
}


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("as_bytes", [False, True])
def test_lists_and_texts_are_no_media(tmp_path: Path, name: str, as_bytes: bool) -> None:
    path = tmp_path / f"{name}.txt"
    path.write_text(LISTS[name])
    with pytest.raises(MediaError) as error:
        VideoReader(path.read_bytes() if as_bytes else str(path))
    assert error.value.kind is FailureKind.NOT_MEDIA


def test_a_text_named_as_a_number_pattern_reads_no_neighbors(tmp_path: Path) -> None:
    for number in range(12):
        Image.fromarray(np.full((32, 32, 3), number * 20, np.uint8)).save(tmp_path / f"{number}.jpg")
    (tmp_path / "%d.jpg").write_text("not a picture\n")
    with pytest.raises(MediaError) as error:
        probe(str(tmp_path / "%d.jpg"), "", "")
    assert error.value.kind is FailureKind.NOT_MEDIA


@pytest.mark.parametrize("name", ["%d.jpg", "a*.png", "what?.png", "[x].jpg", "{a,b}.png"])
def test_a_film_is_read_whatever_pattern_its_name_is(
    numbered, write_video: Callable[..., str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(Path(write_video("plain.mp4", numbered.draw(5))).parent)
    os.rename("plain.mp4", name)
    assert len(list(iter_frames(name, short_side_px=32))) == 5


def test_demuxers_and_protocols_are_named_before_opening(numbered, write_video: Callable[..., str]) -> None:
    path = write_video("a.mp4", numbered.draw(2))
    for source, protocol in ((path, "file"), (Path(path).read_bytes(), NO_PROTOCOL)):
        with VideoReader(source) as reader:
            options = reader.container.options
            assert (options["format_whitelist"], options["protocol_whitelist"]) == (FORMAT_WHITELIST, protocol)
    assert FORMAT_WHITELIST.split(",").count("image2") == FORMAT_WHITELIST.split(",").count("rtp") == 0


@pytest.mark.parametrize("as_image", [False, True])
def test_pictures_beyond_the_limit_are_refused_by_every_reader(
    tmp_path: Path, numbered, write_video: Callable[..., str], as_image: bool
) -> None:
    path = write_video("a.mp4", numbered.draw(3))
    if as_image:
        path = str(tmp_path / "a.png")
        Image.fromarray(numbered.draw(1)[0]).save(path)
    pixels = numbered.width * numbered.height
    assert probe(path, "", "", max_pixels=pixels).width == numbered.width
    for read in (
        lambda: probe(path, "", "", max_pixels=pixels - 1),
        lambda: next(iter_frames(path, short_side_px=32, max_pixels=pixels - 1)),
        lambda: decode_clip(Path(path).read_bytes(), max_pixels=pixels - 1),
    ):
        with pytest.raises(MediaError) as error:
            read()
        assert error.value.kind is FailureKind.TOO_LARGE and "scan.max_pixels" in error.value.detail


def test_a_picture_that_grows_on_its_way_is_bounded_too(tmp_path: Path, numbered, write_video) -> None:
    small = Path(write_video("a.h264", numbered.draw(4), container="h264")).read_bytes()
    large = np.zeros((4, 192, 320, 3), np.uint8)
    (tmp_path / "both.h264").write_bytes(small + Path(write_video("b.h264", large, container="h264")).read_bytes())
    path = str(tmp_path / "both.h264")
    clock = counted_time_base(Fraction(25))
    assert len(list(iter_frames(path, short_side_px=32, time_base=clock))) == 8
    with pytest.raises(MediaError) as error:
        list(iter_frames(path, short_side_px=32, time_base=clock, max_pixels=numbered.width * numbered.height))
    assert error.value.kind is FailureKind.TOO_LARGE


def test_every_reader_has_a_limit_of_time(
    numbered, write_video: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video("a.mp4", numbered.draw(3))
    data, video = Path(path).read_bytes(), probe(path, "", "")
    span = Span(start_pts=0, end_pts=10**6, time_base=video.time_base)
    hours = itertools.count()
    monkeypatch.setattr(stream.time, "monotonic", lambda: next(hours) * 2 * READ_LIMIT_S)
    for read in (
        lambda: probe(path, "", ""),
        lambda: sample_frames(path, span, 2, short_side_px=None),
        lambda: cut_clip(path, span, CutConfig()),
        lambda: decode_clip(data),
        lambda: list(VideoReader(path).shown_packets()),
    ):
        with pytest.raises(MediaError) as error:
            read()
        assert error.value.kind is FailureKind.TIMEOUT
