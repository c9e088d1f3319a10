"""Mode copy: a file that is a clip as it stands keeps its very bytes."""

import io
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from curate.media.cut import CutConfig, EncodedClip, cut_clip
from curate.media.decode import clip_times
from curate.media.probe import probe
from curate.media.still import STILL_SPAN, read_still
from curate.schema import Span
from tests.support.tars import jpg, mp4

COPY = CutConfig(mode="copy")


def whole(path: str, config: CutConfig = COPY) -> EncodedClip:
    times = clip_times(path)
    return cut_clip(path, Span(start_pts=int(times.pts[0]), end_pts=times.end_pts, time_base=times.time_base), config)


def with_tracks(path: Path, data: bytes, *codecs: str, container: str = "mp4") -> str:
    """The picture of an MP4 with tracks of silence."""
    with av.open(io.BytesIO(data)) as source, av.open(str(path), "w", format=container) as target:
        picture = target.add_stream_from_template(source.streams.video[0], opaque=True)
        sounds = [target.add_stream(codec, rate=48000, layout="mono") for codec in codecs]
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = picture
                target.mux(packet)
        for sound in sounds:
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.float32), "fltp", "mono")
            frame.rate, frame.pts = 48000, 0
            target.mux([*sound.encode(frame), *sound.encode(None)])
    return str(path)


def test_a_whole_mp4_keeps_its_bytes_and_a_part_of_it_does_not(tmp_path: Path) -> None:
    path = str(tmp_path / "a.mp4")
    Path(path).write_bytes(mp4(1))
    clip = whole(path)
    assert clip.data == Path(path).read_bytes()
    assert (clip.num_frames, clip.sound) == (18, None)
    times = clip_times(path)
    part = cut_clip(path, Span(start_pts=0, end_pts=int(times.pts[9]), time_base=times.time_base), COPY)
    assert part.num_frames == 9
    assert part.data != clip.data
    assert whole(path, CutConfig()).data != clip.data


@pytest.mark.parametrize(
    ("codecs", "container", "audio", "is_kept"),
    [
        (["aac"], "mp4", "aac", True),
        (["aac"], "mp4", "copy", True),
        (["mp3"], "mp4", "copy", True),
        (["mp3"], "mp4", "aac", False),
        (["aac"], "mp4", "none", False),
        (["aac", "aac"], "mp4", "aac", False),
        (["aac"], "mov", "aac", False),
        ([], "matroska", "aac", False),
    ],
)
def test_bytes_are_kept_where_tracks_and_container_are_those_of_a_clip(
    tmp_path: Path, codecs: list[str], container: str, audio: str, is_kept: bool
) -> None:
    path = with_tracks(tmp_path / "a", mp4(1), *codecs, container=container)
    clip = whole(path, CutConfig.model_validate({"mode": "copy", "audio": audio}))
    assert (clip.data == Path(path).read_bytes()) == is_kept
    assert clip.num_frames == 18
    assert (clip.sound is not None) == (bool(codecs) and audio != "none")
    if clip.sound is not None:
        assert clip.sound_s == pytest.approx(0.1, abs=0.05)
        assert probe(path, path, "").has_audio


def test_a_plain_png_keeps_its_bytes_and_other_images_become_one(tmp_path: Path) -> None:
    pixels = Image.open(io.BytesIO(jpg(1)))
    files = {
        "plain.png": (pixels, {"compress_level": 1}),
        "gray.png": (pixels.convert("L"), {}),
        "a.jpg": (pixels, {"quality": 100}),
    }
    turned = Image.Exif()
    turned[274] = 6
    files["turned.png"] = (pixels, {"exif": turned})
    for name, (image, options) in files.items():
        path = str(tmp_path / name)
        image.save(path, **options)
        clip = cut_clip(path, STILL_SPAN, COPY)
        assert (clip.data == Path(path).read_bytes()) == (name == "plain.png")
        assert clip.ext == "png"
        np.testing.assert_array_equal(read_still(clip.data), read_still(path))
    assert cut_clip(str(tmp_path / "plain.png"), STILL_SPAN, CutConfig()).data != (tmp_path / "plain.png").read_bytes()
