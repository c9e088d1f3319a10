"""Tars as img2dataset and video2dataset write them, and as they should not be."""

import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from curate.media.encode import encode_mp4
from tests.support.videos import FPS, moving

SETTINGS = [
    "scan.detector.kind=whole",
    "score.scorers=null",
    "execute.executor=local",
    "select.rules.short_side_px.min=16",
    "select.rules.duration_s.min=null",
]


def jpg(seed: int, size: tuple[int, int] = (96, 128)) -> bytes:
    """A picture of squares."""
    cells = np.random.default_rng(seed).integers(0, 256, (size[0] // 16, size[1] // 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(cells.repeat(16, 0).repeat(16, 1)).save(buffer, "JPEG")
    return buffer.getvalue()


def mp4(seed: int, seconds: float = 1.5) -> bytes:
    return encode_mp4(moving(seed, seconds), FPS)


def write_members(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def pair(key: str, seed: int, **facts: Any) -> list[tuple[str, bytes]]:
    """An image–text pair of img2dataset."""
    text = f"a picture of squares, number {seed}"
    told = {"url": f"https://example.org/{seed}", "caption": text, "width": 128, "height": 96, "key": key, **facts}
    return [(f"{key}.jpg", jpg(seed)), (f"{key}.json", json.dumps(told).encode()), (f"{key}.txt", text.encode())]


def clip(key: str, seed: int, **facts: Any) -> list[tuple[str, bytes]]:
    """A clip of video2dataset."""
    told: Mapping[str, Any] = {"caption": f"a sliding picture of squares, number {seed}", "clips": [[0, 1.5]], **facts}
    return [(f"{key}.mp4", mp4(seed)), (f"{key}.json", json.dumps(told).encode())]
