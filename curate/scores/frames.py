"""The sampled frames of one clip, and what several scorers make of them."""

from collections.abc import Sequence
from functools import cached_property

import cv2
import numpy as np

from curate.encoders.image import ImageEncoder


class ClipFrames:
    """Sampled frames of one clip, with everything that was derived from them so far.

    Attributes:
        rgb: (T, H, W, 3) uint8 RGB, T ≥ 1.
        features: fingerprint of a backbone → its features of the frames, (T, f).
    """

    def __init__(self, rgb: np.ndarray) -> None:
        self.rgb = rgb
        self.features: dict[str, np.ndarray] = {}

    @cached_property
    def gray(self) -> np.ndarray:
        """(T, H, W) uint8: Rec. 601 luma."""
        return np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in self.rgb])


def embed(clips: Sequence[ClipFrames], encoder: ImageEncoder) -> list[np.ndarray]:
    """Embeddings (T, d) of each clip's frames; no backbone looks at a frame twice.

    On a GPU the frames of all clips go through together. On a CPU that gains nothing, and a clip's values would
    depend, in their last bits, on its company, which a run that was killed does not repeat: so clip by clip.
    """
    backbone = encoder.backbone
    unseen = [clip for clip in clips if backbone.fingerprint not in clip.features]
    for group in [unseen] if backbone.on_gpu and unseen else [[clip] for clip in unseen]:
        features = backbone.features([frame for clip in group for frame in clip.rgb])
        ends = np.cumsum([len(clip.rgb) for clip in group])
        for clip, own in zip(group, np.split(features, ends[:-1]), strict=True):
            clip.features[backbone.fingerprint] = own
    return [encoder.embed_features(clip.features[backbone.fingerprint]) for clip in clips]
