"""Images → pooled vision features, once for the whole training: the tower is frozen.

Every image is seen in several copies: as it is, and cropped, mirrored, recolored, and coarse (the demo's clips are
small). All frames of a shot get the same change, so a copy is still one clip.
"""

import hashlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageEnhance

from caption.llava.corpus import Shot, Stamp
from curate.encoders.training_video import NUM_FRAMES
from curate.media.frames import iter_frames

VIDEO_COPIES, STAMP_COPIES = 3, 4
VIDEO_SHORT_SIDE_PX = 288
FRAMES_PER_S, MIN_FRAMES, MAX_FRAMES = 2.0, 4, 12
BATCH = 16

BACKGROUNDS = {
    "white": (245, 245, 245),
    "black": (15, 15, 15),
    "gray": (128, 128, 128),
    "blue": (70, 120, 210),
    "green": (80, 160, 80),
    "yellow": (235, 215, 90),
    "red": (200, 70, 60),
    "brown": (130, 95, 60),
}

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Copy:
    """What is done to an image: crop box as fractions (left, top, right, bottom), mirror, color factors, coarseness
    (short side in px that it is shrunk to first; None: not)."""

    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    mirror: bool = False
    brightness: float = 1.0
    saturation: float = 1.0
    coarse_px: int | None = None

    def apply(self, image: Image.Image) -> Image.Image:
        width, height = image.size
        left, top, right, bottom = self.box
        image = image.crop((round(left * width), round(top * height), round(right * width), round(bottom * height)))
        if self.coarse_px:
            scale = min(1.0, self.coarse_px / min(image.size))
            size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
            image = image.resize(size, Image.Resampling.BOX)
        if self.mirror:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        image = ImageEnhance.Brightness(image).enhance(self.brightness)
        return ImageEnhance.Color(image).enhance(self.saturation)


def random_copy(rng: np.random.Generator, *, may_mirror: bool) -> Copy:
    width, height = rng.uniform(0.72, 1.0, 2)
    left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
    return Copy(
        box=(left, top, left + width, top + height),
        mirror=bool(may_mirror and rng.random() < 0.5),
        brightness=float(rng.uniform(0.75, 1.25)),
        saturation=float(rng.uniform(0.7, 1.3)),
        coarse_px=int(rng.choice([64, 80, 112, 160])) if rng.random() < 0.5 else None,
    )


def sampled_frames(shot: Shot) -> np.ndarray:
    """Numbers of a shot's frames that are encoded, `(n,)` int64: the middles of n equal parts."""
    length = shot.end_frame - shot.start_frame
    count = min(length, int(np.clip(length / 24 * FRAMES_PER_S, MIN_FRAMES, MAX_FRAMES)))
    return shot.start_frame + ((np.arange(count) + 0.5) * length / count).astype(int)


def video_features(tower: Any, image_processor: Any, video: Path, shots: Sequence[Shot]) -> list[torch.Tensor]:
    """Per shot: (copies, frames, tokens, 1280) float16, copy 0 unchanged. One pass over the video's first 480 s."""
    wanted: dict[int, list[tuple[int, int]]] = {}
    for row, shot in enumerate(shots):
        for column, number in enumerate(sampled_frames(shot)):
            wanted.setdefault(int(number), []).append((row, column))
    copies = [_copies(f"{shot.start_frame}-{shot.end_frame}", not shot.has_sides) for shot in shots]
    found: dict[tuple[int, int], torch.Tensor] = {}
    pending: list[tuple[tuple[int, int], Image.Image]] = []
    for number, frame in enumerate(iter_frames(str(video), short_side_px=VIDEO_SHORT_SIDE_PX)):
        if number >= NUM_FRAMES:
            break
        for place in wanted.get(number, ()):
            image = Image.fromarray(frame.rgb)
            pending.extend((place, copy.apply(image)) for copy in copies[place[0]])
        if len(pending) >= BATCH:
            _flush(tower, image_processor, pending, found)
    _flush(tower, image_processor, pending, found)
    return [
        torch.stack([found[row, column] for column in range(len(sampled_frames(shot)))], 1)
        for row, shot in enumerate(shots)
    ]


def _flush(
    tower: Any,
    image_processor: Any,
    pending: list[tuple[tuple[int, int], Image.Image]],
    found: dict[tuple[int, int], torch.Tensor],
) -> None:
    """Features of the waiting images; those of one frame (its copies, in order) are stacked."""
    if not pending:
        return
    pooled = pool_images(tower, image_processor, [image for _, image in pending])
    for (place, _), start in zip(pending[::VIDEO_COPIES], range(0, len(pending), VIDEO_COPIES), strict=True):
        found[place] = pooled[start : start + VIDEO_COPIES]
    pending.clear()
    log.info("video features: %d frames", len(found))


def stamp_features(
    tower: Any, image_processor: Any, stamps: Sequence[Stamp]
) -> list[tuple[torch.Tensor, tuple[str, ...]]]:
    """Per stamp: (copies, 1, tokens, 1280) float16, and the name of each copy's background color."""
    result: list[tuple[torch.Tensor, tuple[str, ...]]] = []
    for batch in _batches(stamps, BATCH // STAMP_COPIES):
        images: list[Image.Image] = []
        names: list[tuple[str, ...]] = []
        for stamp in batch:
            rng = _rng(stamp.path.name)
            names.append(tuple(rng.choice(list(BACKGROUNDS), STAMP_COPIES, replace=False).tolist()))
            with Image.open(stamp.path, formats=["PNG"]) as file:
                image = file.convert("RGBA")
            images.extend(_place(image, name, rng) for name in names[-1])
        pooled = pool_images(tower, image_processor, images)
        result.extend((pooled[i * STAMP_COPIES :][:STAMP_COPIES, None], names[i]) for i in range(len(batch)))
        if len(result) % 100 < len(batch):
            log.info("stamp features: %d", len(result))
    return result


def pool_images(tower: Any, image_processor: Any, images: Sequence[Any]) -> torch.Tensor:
    """(N, tokens, 1280) float16, not standardized."""
    pixels = image_processor(list(images), return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        return tower.pool(pixels).half().clone()


def _place(stamp: Image.Image, color: str, rng: np.random.Generator) -> Image.Image:
    """The stamp somewhere on a plain wide image, at a third of its height or more."""
    width, height = 448, 288 if rng.random() < 0.7 else 448
    canvas = Image.new("RGB", (width, height), BACKGROUNDS[color])
    scale = rng.uniform(0.4, 0.95) * min(width / stamp.width, height / stamp.height)
    size = (max(1, round(stamp.width * scale)), max(1, round(stamp.height * scale)))
    stamp = stamp.resize(size, Image.Resampling.BICUBIC)
    if rng.random() < 0.5:
        stamp = stamp.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    canvas.paste(stamp, (int(rng.integers(width - size[0] + 1)), int(rng.integers(height - size[1] + 1))), stamp)
    return canvas


def _copies(name: str, may_mirror: bool) -> list[Copy]:
    rng = _rng(name)
    return [Copy(), *(random_copy(rng, may_mirror=may_mirror) for _ in range(VIDEO_COPIES - 1))]


def _rng(name: str) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))


def _batches(items: Sequence[Stamp], size: int) -> Iterator[Sequence[Stamp]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def all_tokens(features: Iterable[torch.Tensor]) -> torch.Tensor:
    """(N, 1280) float32: every token of every image, for the channel statistics."""
    return torch.cat([feature.reshape(-1, feature.shape[-1]).float() for feature in features])
