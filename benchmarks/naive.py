"""What one would put together without reelpack: PySceneDetect, ffmpeg, one decode for each score, a tar.

    python -m benchmarks.naive OUT VIDEO... [--ffmpeg PATH] [--scorers YAML]

The same encoder settings, signals and scorers as reelpack's, so that what differs is who decodes what, how often.
Prints as JSON the number of clips and the seconds of each step.
"""

import argparse
import json
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from curate.encoders.base import EncoderPool
from curate.media.cut import CutConfig
from curate.media.frames import shrink
from curate.scan import ScanConfig
from curate.scores.frames import ClipFrames
from curate.signals.base import FrameSignal, ScanFrame
from curate.signals.config import SIGNALS
from pipelines.config import load_config

MIN_CLIP_S = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--ffmpeg", default="ffmpeg")
    parser.add_argument("--scorers", default="null", help="as in `--set score.scorers=…`")
    arguments = parser.parse_args()
    config = load_config(overrides=[f"score.scorers={arguments.scorers}"]).score
    seconds: dict[str, float] = {}

    @contextmanager
    def step(name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        seconds[name] = round(time.perf_counter() - start, 2)

    arguments.out.mkdir(parents=True)
    clips: list[Path] = []
    with step("detect"):
        scenes = {video: detect(video) for video in arguments.videos}
    with step("cut"):
        for video, spans in scenes.items():
            clips += [cut(arguments.ffmpeg, video, start, end, arguments.out) for start, end in spans]
    for signal in SIGNALS:
        with step(type(signal()).__name__.removesuffix("ModulationParameters").lower()):
            for clip in clips:
                summarized(signal, clip)
    for scorer_config in config.complete().values():
        with step(scorer_config.kind):
            scorer = scorer_config.build()
            scorer.setup(EncoderPool())
            for clip in clips:
                rgb = sampled(clip, config.num_frames, config.short_side_px)
                scorer.score([ClipFrames(rgb)])
    with step("tar"), tarfile.open(arguments.out / "clips.tar", "w") as tar:
        for clip in clips:
            tar.add(clip, clip.name)
    print(json.dumps({"clips": len(clips), "steps": seconds}))


def detect(video: Path) -> list[tuple[float, float]]:
    """Start and end of each scene of at least a second, by PySceneDetect's own reader."""
    from scenedetect import AdaptiveDetector
    from scenedetect import detect as detect_scenes

    scenes = detect_scenes(str(video), AdaptiveDetector(), start_in_scene=True)
    spans = [(start.seconds, end.seconds) for start, end in scenes]
    return [(start, end) for start, end in spans if end - start >= MIN_CLIP_S]


def cut(ffmpeg: str, video: Path, start_s: float, end_s: float, out: Path) -> Path:
    """One ffmpeg per clip, as PySceneDetect's own `split-video` does."""
    target, settings = out / f"{video.stem}_{start_s:.3f}.mp4", CutConfig()
    command = [ffmpeg, "-v", "error", "-ss", f"{start_s:.6f}", "-i", str(video), "-t", f"{end_s - start_s:.6f}", "-an"]
    command += ["-c:v", "libx264", "-crf", str(settings.crf), "-preset", settings.preset, "-pix_fmt", "yuv420p"]
    command += ["-g", str(settings.gop_frames), "-x264-params", "mbtree=0", "-threads", str(settings.num_threads)]
    subprocess.run([*command, str(target)], check=True)
    return target


def summarized(kind: type[FrameSignal], clip: Path) -> dict[str, float]:
    """One signal of a clip: a decode of its own, over all frames."""
    signal = kind()
    values: list[tuple[float, ...]] = []
    starts_s: list[float] = []
    reader = cv2.VideoCapture(str(clip))
    fps = reader.get(cv2.CAP_PROP_FPS)
    while True:
        is_frame, bgr = reader.read()
        if not is_frame:
            break
        starts_s.append(len(starts_s) / fps)
        rgb = shrink(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), ScanConfig().short_side_px)
        values.append(signal.measure(ScanFrame(shown_s=starts_s[-1], rgb=rgb)))
    return signal.summarize(np.array(values), np.array(starts_s), len(starts_s) / fps)


def sampled(clip: Path, num_frames: int, short_side_px: int) -> np.ndarray:
    """`(T, H, W, 3)` uint8: frames at the middles of equal parts, each sought for."""
    reader = cv2.VideoCapture(str(clip))
    count = int(reader.get(cv2.CAP_PROP_FRAME_COUNT))
    frames = []
    for part in range(num_frames):
        reader.set(cv2.CAP_PROP_POS_FRAMES, count * (2 * part + 1) // (2 * num_frames))
        is_frame, bgr = reader.read()
        if is_frame:
            frames.append(shrink(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), short_side_px))
    return np.stack(frames)


if __name__ == "__main__":
    main()
