"""Rates of files whose header says otherwise than their frames, and pixels that change their shape on the way."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from curate.media.clock import counted_time_base
from curate.media.frames import iter_frames
from curate.media.probe import probe
from curate.scan import ScanConfig, ScanStage, SourceFile
from curate.scanned import Scanned


def scanned(path: str) -> Scanned:
    [result] = ScanStage(ScanConfig()).process([SourceFile(uri=path, path=path, size_bytes=0)])
    assert isinstance(result, Scanned), result
    return result


def test_h264_with_b_frames_in_avi_keeps_its_rate(numbered, write_video: Callable[..., str]) -> None:
    source = write_video("a.ts", numbered.draw(48), container="mpegts")
    copy = source.replace("a.ts", "a.avi")
    with av.open(source) as reader, av.open(copy, "w") as output:
        stream = output.add_stream_from_template(reader.streams.video[0])
        # Stream copies give AVI the ticks of the source, of which most are empty then.
        stream.time_base = Fraction(1, 600)
        for packet in reader.demux(reader.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                output.mux(packet)
    with av.open(copy) as reader:
        assert reader.streams.video[0].average_rate != 24
    result = scanned(copy)
    assert result.video.fps == 24
    assert sum(clip.clip.span.duration_s for clip in result.clips) == pytest.approx(2, abs=0.1)


def test_dv_has_the_rate_of_television(tmp_path: Path) -> None:
    path = str(tmp_path / "a.dv")
    with av.open(path, "w", format="dv") as output:
        stream = output.add_stream("dvvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 720, 576, "yuv420p"
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((576, 720, 3), number * 20, np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    assert probe(path, "", "").fps == 25


@pytest.mark.parametrize("name", ["a.h264", "a.mkv", "a.ts", "a.flv"])
def test_rates_of_other_containers(numbered, write_video: Callable[..., str], name: str) -> None:
    container = {"a.mkv": "matroska", "a.ts": "mpegts"}.get(name, name[2:])
    path = write_video(name, numbered.draw(48), fps=Fraction(30000, 1001), container=container)
    assert probe(path, "", "").fps == pytest.approx(30000 / 1001, rel=1e-4)


def test_the_times_of_frames_correct_the_header(numbered, write_video: Callable[..., str]) -> None:
    starts_ms = np.cumsum([0, *([50, 100] * 20)]).tolist()
    path = write_video("a.mkv", numbered.draw(41), pts=starts_ms, time_base=Fraction(1, 1000), num_b_frames=0)
    assert probe(path, "", "").fps == 24, "which is what the header was given"
    assert float(scanned(path).video.fps) == pytest.approx(41 / 3.041, rel=0.001)


def test_a_pixel_that_changes_its_shape_ends_a_shot(tmp_path: Path, numbered, write_video) -> None:
    rgb = numbered.draw(24)
    square = Path(write_video("a.h264", rgb, container="h264", sample_aspect_ratio=Fraction(1))).read_bytes()
    wide = Path(write_video("b.h264", rgb, container="h264", sample_aspect_ratio=Fraction(2))).read_bytes()
    path = str(tmp_path / "both.h264")
    Path(path).write_bytes(square + wide)
    clock = counted_time_base(probe(path, "", "").fps)
    sizes = [frame.rgb.shape[:2] for frame in iter_frames(path, short_side_px=96, time_base=clock)]
    assert sizes == [(96, 160)] * 24 + [(96, 320)] * 24
    assert 24 in np.cumsum([clip.clip.num_frames for clip in scanned(path).clips])
