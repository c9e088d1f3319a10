"""Clips of coloured shapes that move, with captions that say so, and a small open_clip model with random weights."""

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from curate.encoders import torchvision_cpu
from curate.media.codecs import EncodeConfig
from curate.media.encode import encode_mp4
from curate.shards.tar import write_tar
from train.clip.pairs import CaptionedClip

SIDE_PX = 32
FPS = 8
COLORS = {
    "red": (220, 30, 30),
    "green": (30, 180, 40),
    "blue": (40, 60, 220),
    "yellow": (230, 220, 40),
    "white": (240, 240, 240),
    "purple": (160, 40, 180),
    "orange": (240, 140, 20),
    "cyan": (40, 210, 220),
}
SHAPES = ("square", "bar", "column", "cross")
CAPTIONS = tuple(f"a {color} {shape} moves over a gray field" for color in COLORS for shape in SHAPES)
MODEL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": SIDE_PX, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def shape_frames(color: str, shape: str, rng: np.random.Generator, num_frames: int = 4) -> np.ndarray:
    """(T, 32, 32, 3) uint8."""
    frames = np.full((num_frames, SIDE_PX, SIDE_PX, 3), rng.integers(70, 110), np.uint8)
    width, height = {"square": (12, 12), "bar": (20, 6), "column": (6, 20), "cross": (16, 16)}[shape]
    left, top = (int(rng.integers(0, SIDE_PX - side - num_frames)) for side in (width, height))
    for t, frame in enumerate(frames):
        y, x = slice(top + t, top + t + height), slice(left + t, left + t + width)
        if shape == "cross":
            middle_y, middle_x = (slice(side.start + 5, side.stop - 5) for side in (y, x))
            frame[middle_y, x] = frame[y, middle_x] = COLORS[color]
        else:
            frame[y, x] = COLORS[color]
    return frames


def shape_clips(
    folder: Path,
    per_caption: int,
    *,
    num_held_out: int = 1,
    captions: Sequence[str] = CAPTIONS,
) -> list[CaptionedClip]:
    """A shard in `folder` and its clips: of each caption some that train and some that are held out.

    Args:
        folder: of the shard.
        per_caption: clips that train.
        num_held_out: clips that do not.
        captions: those that there are clips of.
    """
    rng = np.random.default_rng(0)
    said, samples = [], []
    for number, caption in enumerate(captions):
        _, color, shape, *_ = caption.split()
        for copy in range(per_caption + num_held_out):
            clip_id = f"{number:04d}{copy:04d}".ljust(16, "0")
            data = encode_mp4(shape_frames(color, shape, rng), FPS, EncodeConfig(crf=12))
            samples.append((clip_id, {"mp4": data}))
            said.append((clip_id, caption, copy >= per_caption))
    members = {member.key: member for member in write_tar(str(folder / "train-000000.tar"), samples)}
    return [
        CaptionedClip(
            clip_id=clip_id,
            shard=members[clip_id].shard,
            offset=members[clip_id].offset,
            size=members[clip_id].size,
            digest=members[clip_id].digest,
            texts={"short": (caption,)},
            is_held_out=is_held_out,
        )
        for clip_id, caption, is_held_out in said
    ]


def shuffled(clips: Sequence[CaptionedClip]) -> list[CaptionedClip]:
    """The captions change places: they say nothing of the clips."""
    texts = [clip.texts for clip in clips]
    random.Random(0).shuffle(texts)
    return [replace(clip, texts=of_clip) for clip, of_clip in zip(clips, texts, strict=True)]


def small_open_clip(folder: Path, seed: int = 0, **changed: object) -> Path:
    """A `local-dir:` with random weights; `changed`: entries of the architecture."""
    torchvision_cpu.repair()
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config = {**MODEL, **changed}
    mean = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": mean}))
    torch.manual_seed(seed)
    built = dict(config)
    kind = open_clip.CustomTextCLIP if built.pop("custom_text", False) else open_clip.CLIP
    state = kind(**built).state_dict()
    save_file({name: value.contiguous() for name, value in state.items()}, folder / "open_clip_model.safetensors")
    return folder
