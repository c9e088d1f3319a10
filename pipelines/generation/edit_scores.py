"""A clip before and after it is edited: how alike its frames are, and how well they match a prompt.

The figures of Tune-A-Video (Wu et al. 2023, §5.2), with an encoder of the user's choice. Frame consistency is here the
mean cosine of frames that follow each other; there it is that of all pairs.
"""

import json
import logging
from functools import lru_cache
from pathlib import Path

import numpy as np

from curate.encoders.base import ImageTextEncoder
from curate.encoders.config import ImageTextConfig
from curate.media.decode import clip_frames, clip_times
from curate.storage.publish import write_text
from pipelines.generation.asked import Asked
from train.evaluate.quality.text import clipsim, frame_consistency

logger = logging.getLogger(__name__)


def add_scores(path: Path, asked: Asked, source: str, settings: ImageTextConfig) -> None:
    """Write the figures of a video that was edited into its .json, and say them.

    Args:
        path: Of the video.
        asked: What was asked for; `given.invert` is the clip.
        source: The clip's own prompt; "": it is not said.
        settings: Of the encoder.
    """
    assert asked.given.invert is not None, "a clip was edited"
    encoder = _encoder(settings)
    prompts = {name: text for name, text in (("source_prompt", source), ("prompt", asked.prompt)) if text}
    texts = dict(zip(prompts, encoder.embed_texts(list(prompts.values())), strict=True)) if prompts else {}
    count = asked.num_frames
    figures = {
        "before": _figures(_frames(asked.given.invert, path, count), texts, encoder),
        "after": _figures(_frames(path, path, count), texts, encoder),
    }
    facts = path.with_suffix(".json")
    write_text(str(facts), json.dumps(json.loads(facts.read_text()) | {"scores": {encoder.name: figures}}, indent=1))
    told = [
        f"{name.replace('_', ' ')} {figures['before'][name]:.4f} before, {figures['after'][name]:.4f} after"
        for name in figures["after"]
    ]
    logger.info("%s by %s: %s", path, encoder.name, "; ".join(told))


def _figures(frames: list[np.ndarray], texts: dict[str, np.ndarray], encoder: ImageTextEncoder) -> dict[str, float]:
    """`frame_consistency` (not of a picture), and the mean cosine with each prompt."""
    seen = encoder.embed_images(frames)  # (T, d), of unit length
    alike = {"frame_consistency": frame_consistency(seen)} if len(frames) > 1 else {}
    return alike | {name: clipsim(seen, text) for name, text in texts.items()}


def _frames(path: Path, made: Path, count: int) -> list[np.ndarray]:
    """The first frames of a clip, at the rate of the video that was made."""
    own, times = clip_times(str(made)), clip_times(str(path))
    rate = (len(own.pts) - 1) / own.starts_s[-1] if len(own.pts) > 1 else None
    indices = times.at(rate) if len(times.pts) > 1 and path != made else np.arange(len(times.pts))
    return list(clip_frames(str(path), times, indices[:count]))


@lru_cache(maxsize=1)
def _encoder(settings: ImageTextConfig) -> ImageTextEncoder:
    encoder: ImageTextEncoder = settings.build()
    encoder.setup()
    return encoder
