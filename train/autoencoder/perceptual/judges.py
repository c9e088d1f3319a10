"""What networks see of reconstructions: distances of frames clip by clip, and over all clips the Fréchet distance of
features of sources and reconstructions, rFVD."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from train.autoencoder.perceptual.base import FrameDistance
from train.autoencoder.perceptual.config import FrameDistanceConfig
from train.evaluate.frechet import Gaussian, frechet_distance
from train.evaluate.video_features.base import VideoFeatures
from train.evaluate.video_features.config import VideoFeaturesConfig

FRAMES = 8
"""Frames that are compared at a time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judges:
    """Networks on a device."""

    frames: Sequence[FrameDistance] = ()
    videos: Sequence[VideoFeatures] = ()
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


def judges_of(
    frames: Sequence[FrameDistanceConfig], videos: Sequence[VideoFeaturesConfig], device: torch.device
) -> Judges:
    """Load them; equal settings count once.

    Raises:
        ValueError: as members say.
    """
    return Judges(
        frames=[one.build(device) for one in dict.fromkeys(frames)],
        videos=[one.build(device) for one in dict.fromkeys(videos)],
        device=device,
    )


class Judgement:
    """Of the reconstructions of one autoencoder."""

    def __init__(self, judges: Judges) -> None:
        self._judges = judges
        self._features: dict[str, list[tuple[Tensor, Tensor]]] = {one.name: [] for one in judges.videos}

    @torch.no_grad()
    def add(self, source: np.ndarray, decoded: np.ndarray) -> dict[str, float]:
        """Mean distances of the frames of a clip, by the name of what measured them; both (T, H, W, 3) uint8.

        Frames that are too small for a network have no distance by it. Of a clip that is longer than a network of
        videos takes, the first frames are seen; a shorter one is not.
        """
        rgb = torch.from_numpy(np.stack([source, decoded]))  # (2, T, H, W, 3)
        for network in self._judges.videos:
            if len(source) >= network.num_frames:
                self._features[network.name].append(tuple(network(rgb[:, : network.num_frames])))
        able = [one for one in self._judges.frames if min(source.shape[1:3]) >= one.min_side_px]
        return {one.name: self._mean_distance(one, rgb) for one in able}

    def _mean_distance(self, distance: FrameDistance, rgb: Tensor) -> float:
        total = 0.0
        for part in rgb.split(FRAMES, dim=1):
            frames = part.to(self._judges.device).permute(0, 1, 4, 2, 3) / 127.5 - 1
            total += float(distance(frames[0], frames[1]).sum())
        return total / rgb.shape[1]

    def frechet(self) -> dict[str, float]:
        """`rfvd_<name>` of each network that saw at least two clips, and `rfvd_<name>_clips`: their number. Networks
        of pictures give `rfd_<name>` or `rfid_<name>`."""
        figures: dict[str, float] = {}
        for network in self._judges.videos:
            pairs, name = self._features[network.name], f"r{network.distance}_{network.name}"
            if len(pairs) < 2:
                continue
            sources, decoded = (Gaussian.of(torch.stack(features)) for features in zip(*pairs, strict=True))
            figures |= {name: frechet_distance(sources, decoded), f"{name}_clips": len(pairs)}
        return figures
