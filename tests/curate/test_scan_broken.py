"""Whatever a file is, the scan gives its clips or a typed failure, in bounded time, and in parts the same as whole."""

import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from curate.media.cut import CutConfig, cut_clip
from curate.media.decode import decode_clip
from curate.media.parts import WHOLE, plan_parts
from curate.media.sample import sample_frames
from curate.scan import Identified, IdentifyStage, ScanConfig, ScanStage, SourceFile, assemble
from curate.scanned import Scanned
from curate.schema import Failure
from curate.shots.adaptive import AdaptiveConfig
from tests.support.corpus import broken_corpus

CONFIG = ScanConfig(detector=AdaptiveConfig(), time_limit_s=20)
SLACK_S = 10
"""Beyond the time limit: it is looked at once per frame."""


def source(path: str) -> SourceFile:
    return SourceFile(uri=path, path=path, size_bytes=0, video_id="v")


def outcome(path: str, part_s: float = 1.0) -> Scanned | Failure:
    """What the stage says of a file, which its parts must not contradict."""
    start = time.monotonic()
    stage = ScanStage(CONFIG)
    (whole,) = stage.process([source(path)])
    parts = plan_parts(path, part_s)
    if parts != (WHOLE,):
        assembled = assemble(stage.process([replace(source(path), part=part) for part in parts]), CONFIG)
        assert assembled is None or assembled == whole
    assert isinstance(whole, (Scanned, Failure))
    assert time.monotonic() - start < 2 * (CONFIG.time_limit_s or 0) + SLACK_S
    return whole


def test_every_broken_file_ends_as_clips_or_as_a_typed_failure(tmp_path: Path) -> None:
    files = broken_corpus(tmp_path / "files")
    assert len(files) > 50
    outcomes = {name: outcome(str(path)) for name, path in files.items()}
    for name, path in files.items():
        (identified,) = IdentifyStage(CONFIG).process([source(str(path))])
        assert isinstance(identified, Identified) or identified == outcomes[name], name
    kinds = {result.kind for result in outcomes.values() if isinstance(result, Failure)}
    assert len(kinds) >= 6
    assert isinstance(outcomes["good.mp4"], Scanned)


ENCODINGS: dict[str, dict[str, Any]] = {
    "a.mp4": {},
    "a.mkv": {},
    "a.ts": {"container": "mpegts"},
    "a.avi": {"codec": "mpeg4"},
    "a.mpg": {"codec": "mpeg2video", "container": "mpeg"},
    "a.h264": {"container": "h264"},
    "a.webm": {"codec": "libvpx-vp9", "num_b_frames": None, "options": {"deadline": "realtime", "cpu-used": "8"}},
    "hevc.mp4": {
        "codec": "libx265",
        "num_b_frames": None,
        "options": {"preset": "ultrafast", "x265-params": "log-level=none"},
    },
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_flipped_bytes_anywhere_end_in_an_outcome(
    write_video: Callable[..., str], draw_scenes: Callable[..., np.ndarray], tmp_path: Path, name: str
) -> None:
    data = np.fromfile(write_video(name, draw_scenes((20, 28)), **ENCODINGS[name]), np.uint8)
    kinds = set()
    for seed in range(24):
        rng = np.random.default_rng(seed)
        damaged, count = data.copy(), int(rng.choice([1, 5, 50]))
        end = int(rng.choice([2000, len(data)]))  # headers, or anywhere
        damaged[rng.integers(0, min(end, len(data)), count)] ^= rng.integers(1, 256, count, dtype=np.uint8)
        path = tmp_path / "damaged"
        damaged.tofile(path)
        kinds.add(type(outcome(str(path))))
    assert kinds == {Scanned, Failure}


def mux(path: Path, pieces: list[np.ndarray], *, container: str) -> str:
    """H.264 of several sizes in one stream, one after the other, in time: as broadcasts have it."""
    fps = Fraction(24)
    with av.open(str(path), "w", format=container) as output:
        stream: Any = None
        first = 0
        for rgb in pieces:
            encoder: Any = av.CodecContext.create("libx264", "w")
            encoder.height, encoder.width, encoder.pix_fmt = rgb.shape[1], rgb.shape[2], "yuv420p"
            encoder.framerate, encoder.time_base, encoder.gop_size = fps, 1 / fps, 12
            encoder.options = {"crf": "12", "preset": "fast"}
            if stream is None:
                stream = output.add_stream("libx264", rate=fps)
                stream.height, stream.width, stream.pix_fmt = rgb.shape[1], rgb.shape[2], "yuv420p"
                stream.time_base = stream.codec_context.time_base = 1 / fps
                output.start_encoding()
            frames = [av.VideoFrame.from_ndarray(picture, format="rgb24") for picture in rgb]
            for number, frame in enumerate(frames):
                frame.pts, frame.time_base = first + number, 1 / fps
            for frame in [*frames, None]:
                for packet in encoder.encode(frame):
                    packet.stream, packet.time_base = stream, 1 / fps
                    output.mux(packet)
            first += len(rgb)
    return str(path)


def test_picture_that_changes_its_size_is_cut_there_and_each_clip_has_its_own(
    draw_scenes: Callable[..., np.ndarray], numbered, tmp_path: Path
) -> None:
    """One shot goes on in another size, and comes back: no detector sees a cut."""
    shot = draw_scenes([120])
    large, upright = shot[40:80].repeat(2, axis=1).repeat(2, axis=2), shot[80:].transpose(0, 2, 1, 3).copy()
    path = mux(tmp_path / "a.ts", [shot[:40], large, upright], container="mpegts")
    result = outcome(path, part_s=1.5)
    assert isinstance(result, Scanned) and len(plan_parts(path, 1.5)) > 1
    clips = [item.clip for item in result.clips]
    assert [(clip.num_frames, clip.width, clip.height) for clip in clips] == [
        (40, 160, 96),
        (40, 320, 192),
        (40, 96, 160),
    ]
    for clip in clips:
        encoded = cut_clip(path, clip.span, CutConfig(preset="ultrafast"))
        assert (encoded.num_frames, encoded.width, encoded.height) == (40, clip.width, clip.height)
        assert decode_clip(encoded.data).rgb.shape == (40, clip.height, clip.width, 3)
        sampled = sample_frames(path, clip.span, 3, short_side_px=48).rgb
        assert sampled.shape[1:3] == ((80, 48) if clip.height > clip.width else (48, 80))


def test_sound_that_appears_on_the_way_does_not_matter(
    write_video: Callable[..., str], draw_scenes: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    rgb = draw_scenes((24, 24))
    silent = write_video("silent.ts", rgb, container="mpegts")
    pts = list(range(48, 96))
    sounding = write_video("sounding.ts", rgb, container="mpegts", pts=pts, with_sound=True)
    path = tmp_path / "both.ts"
    path.write_bytes(Path(silent).read_bytes() + Path(sounding).read_bytes())
    for _ in range(5):  # what went wrong depended on memory that was not set
        result = outcome(str(path))
        assert isinstance(result, Scanned) and result.num_decoded_frames == 96
