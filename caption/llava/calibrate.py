"""Measures the gate of the embedded captioner, and makes its file.

    python -m caption.llava.calibrate [--video bbb.mp4] [--write] FOLDER_OF_FOREIGN_IMAGES_AND_CLIPS ...

The bound comes from the video alone: 95 % of its training shots are nearer to the other shots than that, where all
within ten seconds of a shot are left out. Held-out shots and foreign material only measure it. Prints a Markdown
table.
"""

import argparse
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch

from caption.backends.embedded import EmbeddedCaptioner, EmbeddedConfig
from caption.config import CaptionConfig
from caption.llava.corpus import load_shots
from caption.llava.domain import STATISTICS, clip_feature, distance
from caption.llava.evaluate import load_held_out, read_images
from caption.llava.vision import pool_frames
from curate.encoders import weights
from curate.media.decode import decode_clip, middles
from curate.media.frames import iter_frames
from curate.schema import MediaError
from curate.storage.tensors import write_tensors

QUANTILE = 0.95
NEIGHBORHOOD_FRAMES = 240
COARSE_PX = (224, 126)
MAX_CLIPS, CLIP_FRAMES = 8, 60
MAX_IMAGES, MIN_IMAGE_PX = 150, 128


def video_shots(video: Path, num_frames: int) -> Iterator[np.ndarray]:
    """Per training shot, the frames that the captioner samples: `(T, H, W, 3)` uint8 RGB."""
    lengths = [(shot.start_frame, shot.end_frame - shot.start_frame) for shot in load_shots()]
    return read_images(video, [start + middles(length, num_frames) for start, length in lengths])


def coarse(frames: np.ndarray) -> np.ndarray:
    return np.stack([cv2.resize(frame, COARSE_PX, interpolation=cv2.INTER_AREA) for frame in frames])


def bound(features: torch.Tensor, coarse_features: torch.Tensor) -> float:
    """The `QUANTILE` of the training shots' distances (1 - cosine) to the others that are not near in time.

    Both arguments: `(shots, dim)` unit vectors, in order of the shots.
    """
    starts = torch.tensor([shot.start_frame for shot in load_shots()])
    found = []
    for row, feature in enumerate(features):
        far = (starts - starts[row]).abs() >= NEIGHBORHOOD_FRAMES
        found.append(distance(feature, unit(torch.cat([features[far], coarse_features[far]]))))
    return float(np.quantile(found, QUANTILE))


def foreign_clips(folder: Path, num_frames: int) -> Iterator[np.ndarray]:
    """Up to `MAX_CLIPS` clips of each video, and a random choice of the images.

    Each is `(T, H, W, 3)` uint8 RGB; an image has T = 1.
    """
    images = []
    for path in sorted(path for path in folder.resolve().rglob("*") if path.is_file()):
        if path.suffix.lower() in (".png", ".jpg", ".jpeg"):
            images.append(path)
        elif path.suffix.lower() in (".mp4", ".avi", ".mpg", ".mov", ".mkv", ".webm"):
            video = [frame.rgb for frame in iter_frames(str(path), short_side_px=256)]
            for part in np.array_split(np.arange(len(video)), max(1, min(MAX_CLIPS, len(video) // CLIP_FRAMES))):
                yield np.stack([video[part[index]] for index in middles(len(part), num_frames)])
    random.Random(0).shuffle(images)
    count = 0
    for path in images:
        try:
            frames = decode_clip(path.read_bytes()).rgb
        except MediaError:
            continue
        if count < MAX_IMAGES and min(frames.shape[1:3]) >= MIN_IMAGE_PX:
            count += 1
            yield frames


def unit(features: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(features, dim=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--video", type=Path, help="Big Buck Bunny; none: the asset bbb-film")
    parser.add_argument("--write", action="store_true", help=f"write {STATISTICS.name}")
    parser.add_argument("foreign", type=Path, nargs="*", help="folders")
    arguments = parser.parse_args()
    video, num_frames = arguments.video or weights.resolve("bbb-film"), CaptionConfig().frames.num_frames
    captioner = EmbeddedCaptioner(EmbeddedConfig())
    captioner.setup()
    vlm = captioner.vlm
    tower, image_processor = vlm.model.model.vision_tower, vlm.processor.image_processor

    def features(clips: Iterable[np.ndarray]) -> list[torch.Tensor]:
        return [clip_feature(*pool_frames(tower, image_processor, [frames])) for frames in clips]

    both = [features((frames, coarse(frames))) for frames in video_shots(video, num_frames)]
    sharp, small = (torch.stack(of_all) for of_all in zip(*both, strict=True))
    max_distance, bank = bound(sharp, small), torch.cat([sharp, small]).half()
    if arguments.write:
        write_tensors({"shots": bank}, STATISTICS, metadata={"max_distance": f"{max_distance:.4f}"})
    table = {"held-out shots of the video": features(shot.frames for shot in load_held_out(video, num_frames))}
    table |= {folder.name: features(foreign_clips(folder, num_frames)) for folder in arguments.foreign}
    print(
        f"Bound {max_distance:.3f}.\n\n| clips | number | captioned | nearest / median / farthest |\n|---|---|---|---|"
    )
    for name, found in table.items():
        far = [distance(feature, unit(bank.float())) for feature in found]
        spread = " / ".join(f"{value:.2f}" for value in (min(far), float(np.median(far)), max(far)))
        print(f"| {name} | {len(far)} | {sum(value <= max_distance for value in far)} | {spread} |", flush=True)


if __name__ == "__main__":
    main()
