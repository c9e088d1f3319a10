"""What networks see of a video, kept instead of its pixels: small enough to be sent between ranks."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from curate.encoders.base import ImageTextEncoder
from curate.schema import content_digest
from train.evaluate.quality.config import MeasureConfig
from train.evaluate.quality.motion import movement
from train.evaluate.video_features.base import VideoFeatures


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Observation:
    """Of one video.

    Attributes:
        features: (D,) float32 by the name of the distance that they make, such as `fvd_i3d_torchscript_16`.
        frames: (F, d) float32 of unit length by the name of the text match, such as `text_match_conse`.
        movement: Figures by name; empty of a picture.
    """

    features: Mapping[str, Tensor]
    frames: Mapping[str, np.ndarray]
    movement: Mapping[str, float]


class Observer:
    """Networks on a device.

    Raises:
        MissingWeights, ValueError: a network cannot be loaded.
    """

    def __init__(self, config: MeasureConfig, device: torch.device) -> None:
        self._config = config
        built = [one.build(device) for one in dict.fromkeys(config.features)]
        self.networks: dict[str, VideoFeatures] = {f"{one.distance}_{one.name}": one for one in built}
        self.encoders: dict[str, ImageTextEncoder] = {}
        for settings in dict.fromkeys(config.text):
            placed = settings.model_copy(update={"device": str(device)}) if settings.device == "auto" else settings
            encoder: ImageTextEncoder = placed.build()
            encoder.setup()
            self.encoders[text_match_name(encoder)] = encoder

    @property
    def min_frames(self) -> int:
        """Of a video that every network takes."""
        return max(1 if one.is_spread else one.num_frames for one in self.networks.values())

    @property
    def fingerprint(self) -> str:
        """Of what is seen: the networks with their weights, and the settings that change a value."""
        parts = [f"{name} {network.fingerprint}" for name, network in self.networks.items()]
        parts += [f"{name} {encoder.fingerprint}" for name, encoder in self.encoders.items()]
        return content_digest(*parts, str(self._config.num_text_frames))

    def check_length(self, num_frames: int) -> None:
        """See that every network takes videos of this length.

        Raises:
            ValueError: naming the network.
        """
        for name, network in self.networks.items():
            if not network.is_spread and num_frames < network.num_frames:
                raise ValueError(
                    f"{name} sees {network.num_frames} frames, and the videos have {num_frames}; take longer videos, "
                    "fewer frames (num_frames of i3d), or other networks (evaluate.features)"
                )

    def see(self, rgb: np.ndarray, fps: float, *, with_text: bool = True) -> Observation:
        """A video (T, H, W, 3) uint8. Without text for clips of which only features are wanted."""
        video, count = torch.from_numpy(np.ascontiguousarray(rgb)), self._config.num_text_frames
        shown = [rgb[i] for i in _evenly(len(rgb), count)] if with_text else []
        return Observation(
            features={
                name: network(video[_seen(network, len(rgb))][None])[0] for name, network in self.networks.items()
            },
            frames={name: encoder.embed_images(shown) for name, encoder in self.encoders.items()} if with_text else {},
            movement=movement(rgb, fps) if with_text else {},
        )

    def texts(self, prompts: Sequence[str]) -> Mapping[str, np.ndarray]:
        """(N, d) of unit length by the name of the text match; of no prompts none."""
        if not prompts:
            return {}
        return {name: encoder.embed_texts(prompts) for name, encoder in self.encoders.items()}


def text_match_name(encoder: ImageTextEncoder) -> str:
    """CLIPSIM is that of CLIP-like models alone."""
    if not encoder.name.startswith("open_clip "):
        return f"text_match_{encoder.name}"
    words = [part.rpartition("/")[2] for part in encoder.name.removeprefix("open_clip ").split()]
    return re.sub(r"\W+", "_", f"clipsim {' '.join(words)}").strip("_").lower()


def _seen(network: VideoFeatures, num_frames: int) -> list[int]:
    return _evenly(num_frames, network.num_frames) if network.is_spread else list(range(network.num_frames))


def _evenly(length: int, count: int) -> list[int]:
    """Numbers of `count` frames from the whole length: the middle one of a single frame."""
    if count == 1:
        return [length // 2]
    return [round(i * (length - 1) / (count - 1)) for i in range(count)]
