"""Copies made of the real shots of a video, as the scan sees them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from curate.media.codecs import EncodeConfig
from curate.media.encode import encode_mp4
from curate.media.frames import iter_frames
from curate.media.probe import content_id, probe
from curate.scan import ScanConfig, scan
from curate.shots.whole import WholeConfig

DEMO = Path(__file__).parents[2] / "pipelines" / "demo" / "media"
SHORT_SIDE_PX = 360
FPS = 24
MIN_FRAMES = 30


@dataclass(frozen=True, kw_only=True)
class Copy:
    """One way to copy a shot: frames (T, H, W, 3) in, an MP4 out."""

    name: str
    make: Callable[[np.ndarray], bytes]
    is_copy: bool = True


def resized(frames: np.ndarray, scale: float) -> np.ndarray:
    size = (round(frames.shape[2] * scale / 2) * 2, round(frames.shape[1] * scale / 2) * 2)
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])


def cropped(frames: np.ndarray, share: float) -> np.ndarray:
    top, left = (round(side * share / 2) for side in frames.shape[1:3])
    return frames[:, top : frames.shape[1] - top, left : frames.shape[2] - left]


def letterboxed(frames: np.ndarray, share: float) -> np.ndarray:
    bar = round(frames.shape[1] * share / 2)
    return np.pad(frames, ((0, 0), (bar, bar), (0, 0), (0, 0)))


COPIES = (
    Copy(name="original", make=lambda x: encode_mp4(x, FPS, EncodeConfig(crf=16))),
    Copy(name="crf 23", make=lambda x: encode_mp4(x, FPS, EncodeConfig(crf=23))),
    Copy(name="crf 32", make=lambda x: encode_mp4(x, FPS, EncodeConfig(crf=32))),
    Copy(name="crf 40", make=lambda x: encode_mp4(x, FPS, EncodeConfig(crf=40))),
    Copy(name="half size", make=lambda x: encode_mp4(resized(x, 0.5), FPS)),
    Copy(name="crop 5 %", make=lambda x: encode_mp4(cropped(x, 0.05), FPS)),
    Copy(name="letterbox", make=lambda x: encode_mp4(letterboxed(x, 0.25), FPS)),
    Copy(name="12 frames/s", make=lambda x: encode_mp4(x[::2], FPS // 2)),
    Copy(name="a frame less", make=lambda x: encode_mp4(x[1:], FPS)),
    Copy(name="trim 10 %", make=lambda x: encode_mp4(x[round(len(x) * 0.07) : round(len(x) * 0.97)], FPS)),
    Copy(name="mirrored", make=lambda x: encode_mp4(np.ascontiguousarray(x[:, :, ::-1]), FPS), is_copy=False),
)


def copies_of_shots(
    video: str, folder: Path, short_side_px: int = SHORT_SIDE_PX, max_shots: int | None = None
) -> list[dict[str, Any]]:
    """One row per copy, as clips.parquet has it, with what is known about it."""
    config = ScanConfig(detector=WholeConfig())
    rows = []
    for number, frames in enumerate(shots(video, short_side_px)[:max_shots]):
        for copy in COPIES:
            path = folder / f"{number}-{copy.name}.mp4".replace(" ", "_").replace("/", "_")
            path.write_bytes(copy.make(frames))
            name = content_id(str(path))
            scanned = scan(probe(str(path), str(path), name), str(path), config).clips[0]
            rows.append(
                {
                    "clip_id": scanned.clip.clip_id,
                    "frame_hashes": scanned.frame_hashes,
                    "width": scanned.clip.width,
                    "height": scanned.clip.height,
                    "duration_s": scanned.clip.span.duration_s,
                    "bitrate": path.stat().st_size * 8 / scanned.clip.span.duration_s,
                    **scanned.signals,
                    "shot": f"{video}:{number}",
                    "how": copy.name,
                    "is_copy": copy.is_copy,
                }
            )
    return rows


def shots(video: str, short_side_px: int) -> list[np.ndarray]:
    """Frames of each shot of the film that is long enough to be trimmed, (T, H, W, 3)."""
    scanned = scan(probe(video, video, content_id(video)), video, ScanConfig())
    frames = {f.pts: f.rgb for f in iter_frames(video, short_side_px=short_side_px)}
    parts = [
        [rgb for pts, rgb in frames.items() if item.clip.span.start_pts <= pts < item.clip.span.end_pts]
        for item in scanned.clips
    ]
    return [np.stack(part) for part in parts if len(part) >= MIN_FRAMES]
