"""The sampled frames of one clip, with results that several scorers share."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType

import numpy as np

from curate.encoders.base import ImageEncoder
from curate.media.sound import Sound


class ClipFrames:
    """Sampled frames of one clip, with cached derived values.

    Attributes:
        rgb: (T, H, W, 3) uint8 RGB, T ≥ 1.
        duration_s: Of the clip; 0 for an image.
        texts: Column of the user → its text of the clip, for the scorers that read one.
        features: fingerprint of a backbone → its features of the frames, (T, f).
    """

    def __init__(
        self,
        rgb: np.ndarray,
        duration_s: float = 0.0,
        read_sound: Callable[[], Sound | None] = lambda: None,
        texts: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`read_sound` decodes the clip's sound, for the first scorer that asks."""
        self.rgb = rgb
        self.duration_s = duration_s
        self.texts = texts
        self._read_sound = read_sound
        self.features: dict[str, np.ndarray] = {}

    @cached_property
    def sound(self) -> Sound | None:
        """The clip's sound; None where its source has none, or nothing sounds in it."""
        return self._read_sound()

    @cached_property
    def gray(self) -> np.ndarray:
        """(T, H, W) uint8: Rec. 601 luma."""
        import cv2

        return np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in self.rgb])

    def spread(self, count: int) -> list[int]:
        """Indices of at most `count` frames: the middles of equal parts of the sample."""
        total = len(self.rgb)
        count = min(count, total)
        return [total * (2 * part + 1) // (2 * count) for part in range(count)]


def embed(clips: Sequence[ClipFrames], encoder: ImageEncoder) -> list[np.ndarray]:
    """Embeddings (T, d) float32 of each clip's frames. A backbone processes each frame once."""
    backbone = encoder.backbone
    unseen = [clip for clip in clips if backbone.fingerprint not in clip.features]
    features = by_clip(backbone.features, [list(clip.rgb) for clip in unseen], joined=bool(unseen) and backbone.on_gpu)
    for clip, own in zip(unseen, features, strict=True):
        clip.features[backbone.fingerprint] = own
    return [encoder.embed_features(clip.features[backbone.fingerprint]) for clip in clips]


def by_clip(
    model: Callable[[Sequence[np.ndarray]], np.ndarray], clips: Sequence[Sequence[np.ndarray]], joined: bool
) -> list[np.ndarray]:
    """Rows of the model's output for the images of each clip: `(images, …)` per clip.

    Args:
        model: N images, `(H, W, 3)` uint8 RGB each, to N rows, `(N, …)`.
        clips: the images of each clip, at least one each.
        joined: all clips in one call, which is faster on a GPU. On a CPU it saves nothing, and the last bits of a
            clip's values would depend on the other clips, which differ after a resume.
    """
    if not joined:
        return [model(images) for images in clips]
    rows = model([image for images in clips for image in images])
    return np.split(rows, np.cumsum([len(images) for images in clips])[:-1])
