"""Aesthetic: a linear head on image embeddings, trained by LAION on ratings of people.

LAION 2022, "LAION-Aesthetics": CLIP embeddings of unit length, and a linear layer (v1) or a few of them without
non-linearities between (v2, "sac+logos+ava1-l14-linearMSE"), which rate images about 1 to 10. The head is a file of
the user: none is embedded.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from curate.encoders.base import EncoderPool
from curate.encoders.config import ImageConfig
from curate.encoders.fingerprint import path_digest
from curate.encoders.weights import MissingWeights
from curate.rules import Column
from curate.schema import content_digest
from curate.scores.base import Value
from curate.scores.frames import ClipFrames, embed


class AestheticConfig(BaseModel):
    """The head, and the encoder that it was trained on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["aesthetic"] = "aesthetic"
    columns: ClassVar[Mapping[str, Column]] = {
        "aesthetic": Column(description="rating by your own head, on its own scale")
    }
    encoder: ImageConfig = Field(description="that of the head: for LAION's, open_clip ViT-L-14 with tag openai")
    head: Path = Field(description="local file of linear layers: .safetensors, or a .pth or .pt state dict")

    def build(self) -> "AestheticScorer":
        return AestheticScorer(self)


class AestheticScorer:
    """`aesthetic`: the head's rating, averaged over the frames, on its own scale (LAION: about 1 to 10)."""

    def __init__(self, config: AestheticConfig) -> None:
        self.config = config
        self._encoder = config.encoder.build()
        self._head: tuple[np.ndarray, float] | None = None

    @cached_property
    def key(self) -> str:
        return content_digest(self.config.kind, self._encoder.fingerprint, path_digest(self._file))

    def setup(self, encoders: EncoderPool) -> None:
        """Load the encoder and the head.

        Raises:
            MissingWeights: the head's file is not there, or the encoder's weights are not.
            ValueError: the file holds no chain of linear layers from such embeddings to one number.
        """
        self._head = load_head(self._file)
        self._encoder = encoders.load(self._encoder)
        width = embed([ClipFrames(np.zeros((1, 32, 32, 3), np.uint8))], self._encoder)[0].shape[1]
        if width != len(self._head[0]):
            raise ValueError(
                f"aesthetic.head: {self._file} rates embeddings of {len(self._head[0])} numbers, the encoder "
                f"{self.config.encoder.kind} gives {width}; name the encoder that the head was trained on"
            )

    def score(self, clips: Sequence[ClipFrames]) -> list[dict[str, Value]]:
        assert self._head is not None, "setup() comes first"
        weight, bias = self._head
        rated = [vectors.astype(np.float64) @ weight + bias for vectors in embed(clips, self._encoder)]
        return [{"aesthetic": float(ratings.mean())} for ratings in rated]

    @property
    def _file(self) -> Path:
        path = self.config.head.expanduser()
        if not path.is_file():
            raise MissingWeights(
                f"aesthetic.head: {path.absolute()} is not there; no head is embedded. Name a local file such as "
                "LAION's sac+logos+ava1-l14-linearMSE.pth, or leave it out: score.scorers.aesthetic=null"
            )
        return path


def load_head(path: Path) -> tuple[np.ndarray, float]:
    """The linear layers of a file, multiplied out to one: weight (d,) and bias, in float64.

    Layers are applied in the order of the numbers in their names (`layers.0.weight`, `layers.2.weight`, …).

    Raises:
        ValueError: no state dict, or no linear layers that lead from an embedding to one number.
    """
    state = _read(path)
    names = sorted((name for name in state if name.endswith("weight")), key=_numbers)
    matrix, offset = np.eye(0), np.zeros(0)
    for position, name in enumerate(names):
        weight = state[name]
        bias = state.get(name.removesuffix("weight") + "bias", np.zeros(len(weight)))
        if weight.ndim != 2 or (position and weight.shape[1] != len(matrix)):
            break
        matrix, offset = (weight @ matrix, weight @ offset + bias) if position else (weight, bias)
    else:
        if matrix.shape[0] == 1:
            return matrix[0], float(offset[0])
    shapes = {name: state[name].shape for name in names}
    raise ValueError(f"{path}: expected linear layers from an embedding to one number, got weights {shapes}")


def _read(path: Path) -> dict[str, np.ndarray]:
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            state: dict[str, torch.Tensor] = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path}: cannot be read as weights: {error}") from error
    return {name: tensor.double().numpy() for name, tensor in state.items()}


def _numbers(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]
