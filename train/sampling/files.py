"""Files of generated videos: an mp4, or of one frame a PNG, and the settings beside it as .json."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from curate.media.encode import encode_mp4
from curate.storage.publish import publish, write_text
from train.sampling.provenance import Provenance, png_texts, with_xmp


def suffix_of(num_frames: int) -> str:
    return ".mp4" if num_frames > 1 else ".png"


def write_generated(
    path: Path, rgb: np.ndarray, fps: float, provenance: Provenance, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Write a video and, when it is there, its .json: a file with a .json is whole, and is of these settings.

    Args:
        path: .mp4, or of one frame .png.
        rgb: (T, H, W, 3) uint8.
        fps: frames per second.
        provenance: written into both.
        settings: of the .json, further ones.

    Returns:
        What the .json says.
    """
    facts = facts_of(provenance, settings)
    beside = path.with_suffix(".json")
    beside.unlink(missing_ok=True)
    data = encoded(rgb, fps, provenance)
    with publish(str(path)) as file:
        file.write(data)
    write_text(str(beside), json.dumps(facts, indent=1))
    return facts


def facts_of(provenance: Provenance, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the .json of a generated video says."""
    facts: dict[str, Any] = json.loads(json.dumps(provenance.facts | dict(settings), default=str))
    return facts


def encoded(rgb: np.ndarray, fps: float, provenance: Provenance) -> bytes:
    """Frames (T, H, W, 3) uint8 as an mp4, a single one as a PNG; equal bytes for equal frames and provenance."""
    if len(rgb) > 1:
        return with_xmp(encode_mp4(rgb, fps, tags=provenance.tags), provenance.xmp())
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    texts, buffer = PngInfo(), io.BytesIO()
    for keyword, text in png_texts(provenance).items():
        texts.add_itxt(keyword, text)
    Image.fromarray(rgb[0]).save(buffer, "PNG", pnginfo=texts)
    return buffer.getvalue()
