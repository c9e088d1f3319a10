"""What networks have seen of a dataset's clips, kept beside the run: the next evaluation looks at new clips alone.

    RUN/evaluation/clips/<fingerprint>.safetensors

The fingerprint is of the networks, their weights and settings, and of the size, length and rate of what they see.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from curate.schema import content_digest
from curate.storage.publish import publish
from curate.storage.tensors import tensors_to_bytes
from train.evaluate.quality.clips import RealClip, View
from train.evaluate.quality.observe import Observation, Observer

logger = logging.getLogger(__name__)
VERSION = "1"
"""Another one where videos are looked at in another way."""


class KeptObservations:
    """Args:
    folder: Of a run's evaluations.
    view: That clips are seen at.
    observer: What sees them.
    with_text: Whether frames for text and movement are kept, too.
    """

    def __init__(self, folder: Path, view: View, observer: Observer, *, with_text: bool) -> None:
        parts = (VERSION, json.dumps(asdict(view)), observer.fingerprint, str(with_text))
        self.path = folder / "clips" / f"{content_digest('observations', *parts)[:16]}.safetensors"

    def read(self) -> dict[str, Observation]:
        """By the key of a clip; none of a file that is damaged."""
        try:
            tensors = load_file(self.path)
        except FileNotFoundError:
            return {}
        except (OSError, SafetensorError) as error:
            logger.warning("%s is damaged (%s): clips are looked at again", self.path, error)
            return {}
        seen: dict[str, dict[str, dict[str, Tensor]]] = {}
        for place, tensor in tensors.items():
            key, part, name = place.split("/")
            seen.setdefault(key, {"features": {}, "frames": {}, "movement": {}})[part][name] = tensor
        return {key: _observation(**parts) for key, parts in seen.items()}

    def write(self, seen: Mapping[str, Observation]) -> None:
        """All that are kept from now on."""
        tensors: dict[str, Tensor] = {}
        for key, one in seen.items():
            parts = {
                "features": one.features,
                "frames": {name: torch.from_numpy(values) for name, values in one.frames.items()},
                "movement": {name: torch.tensor(value, dtype=torch.float64) for name, value in one.movement.items()},
            }
            tensors |= {f"{key}/{part}/{name}": value for part, own in parts.items() for name, value in own.items()}
        with publish(str(self.path)) as file:
            file.write(tensors_to_bytes(tensors))


def key_of(clip: RealClip) -> str:
    """Of a clip as it is cut now."""
    return f"{clip.clip_id}-{clip.row['digest']}"


def _observation(
    features: Mapping[str, Tensor], frames: Mapping[str, Tensor], movement: Mapping[str, Tensor]
) -> Observation:
    return Observation(
        features=features,
        frames={name: values.numpy() for name, values in frames.items()},
        movement={name: float(value) for name, value in movement.items()},
    )
