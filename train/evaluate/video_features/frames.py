"""An encoder of pictures, frame by frame: what is seen, and how much of it changes."""

import re

import torch
from torch import Tensor

from curate.encoders.base import ImageEncoder
from train.evaluate.video_features.base import DistanceName
from train.evaluate.video_features.config import FramesConfig


class Frames:
    """Raises:
    MissingWeights: the embedded weights were not fetched, or a checkpoint is not there.
    ValueError: open_clip cannot load the model.
    """

    distance: DistanceName = "fd"
    is_spread = True

    def __init__(self, config: FramesConfig, device: torch.device) -> None:
        given = config.encoder
        placed = given.model_copy(update={"device": str(device)}) if given.device == "auto" else given
        self._encoder: ImageEncoder = placed.build()
        self._encoder.setup()
        kind = given.kind if given.kind != "open_clip" else f"{given.model}_{given.pretrained or ''}"
        stem = re.sub(r"\W+", "_", kind.rpartition("/")[2]).strip("_").lower()
        self.name, self.num_frames = f"{stem}_{config.num_frames}", config.num_frames
        self.fingerprint = self._encoder.fingerprint

    def __call__(self, videos: Tensor) -> Tensor:
        count, frames = videos.shape[:2]
        features = torch.from_numpy(self._encoder.backbone.features(list(videos.flatten(0, 1).numpy())))
        features = features.float().unflatten(0, (count, frames))  # (N, T, D)
        mean = features.mean(1)
        return mean if frames == 1 else torch.cat([mean, features.diff(dim=1).abs().mean(1)], dim=1)
