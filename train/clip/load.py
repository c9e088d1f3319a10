"""Pairs as the model takes them, and their vectors."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from curate.schema import MediaError
from train.clip.model import ClipModel
from train.clip.pairs import CaptionedClip, FrameReader, Pair

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """A pair: its text, and the pixels of its clip, (T, 3, h, w), or the clip's vector, (d,)."""

    text: str
    clip: Tensor


class PairLoader:
    """Decodes clips in threads.

    Args:
        model: its preprocessing is applied.
        frames: reads the clips.
        pool: the threads.
    """

    def __init__(self, model: ClipModel, frames: FrameReader, pool: ThreadPoolExecutor) -> None:
        self._model, self._frames, self._pool = model, frames, pool
        self.vectors: Mapping[str, Tensor] | None = None
        """clip_id → (d,): then no clip is decoded, and what is not there cannot be."""

    def load(self, pairs: Sequence[Pair]) -> list[Loaded | None]:
        """None: the clip cannot be decoded.

        Raises:
            OSError, ValueError: a shard cannot be read, or holds other bytes than the index says.
        """
        if self.vectors is None:
            clips = list(self._pool.map(self._pixels, [pair.clip for pair in pairs]))
        else:
            clips = [self.vectors.get(pair.clip.clip_id) for pair in pairs]
        return [
            None if clip is None else Loaded(text=pair.text, clip=clip)
            for pair, clip in zip(pairs, clips, strict=True)
        ]

    @torch.no_grad()
    def vectors_of(self, clips: Sequence[CaptionedClip], at_once: int) -> Iterator[Tensor | None]:
        """(d,) float32 of each clip, on CPU, `at_once` clips in a forward pass."""
        for start in range(0, len(clips), at_once):
            pixels = list(self._pool.map(self._pixels, clips[start : start + at_once]))
            decoded = [one for one in pixels if one is not None]
            vectors = iter(self._model.embed_clips(decoded).cpu() if decoded else ())
            yield from (None if one is None else next(vectors).clone() for one in pixels)

    def _pixels(self, clip: CaptionedClip) -> Tensor | None:
        try:
            return self._model.pixels(self._frames.read(clip))
        except MediaError as error:
            logger.warning("clip %s is left out: %s", clip.clip_id, error)
            return None


def embed(model: ClipModel, pairs: Sequence[Loaded]) -> tuple[Tensor, Tensor]:
    """(n, d) unit vectors of the clips of n ≥ 1 pairs, and of their texts."""
    clips = [pair.clip for pair in pairs]
    vectors = torch.stack(clips).to(model.device) if clips[0].ndim == 1 else model.embed_clips(clips)
    return vectors, model.embed_texts([pair.text for pair in pairs])
