"""What a denoiser is: noisy tokens of a pack in, the objective's prediction out.

A new one is a file with its class, a file with its settings, and a line in `train/model/config.py`. It is a module of
torch and an abstract class: a run takes its parameters, spreads its blocks over ranks and compiles them.
"""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias, overload

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from curate.storage.publish import write_text
from curate.storage.tensors import write_tensors
from train.model.config import ModelConfig
from train.packing.batch import PackedBatch
from train.run.load_state import load_state

State: TypeAlias = dict[str, Tensor]
Losses: TypeAlias = Callable[[nn.Module, PackedBatch], Tensor]
"""An objective's losses of a model on a pack: (L,)."""


class Denoiser(nn.Module, ABC):
    """
    Attributes:
        config: settings that the model was built from.
        channels: C of the latents.
        text_dim: features of a caption's token states.
        num_outputs: values predicted for each feature of a token.
        blocks: most of the model, as modules that are compiled, sharded and activation-checkpointed one by one.
    """

    config: ModelConfig
    channels: int
    text_dim: int
    num_outputs: int
    blocks: nn.ModuleList

    @overload
    def forward(self, x: Tensor, timesteps: Tensor, batch: PackedBatch, features_of: None = None) -> Tensor: ...
    @overload
    def forward(self, x: Tensor, timesteps: Tensor, batch: PackedBatch, features_of: int) -> tuple[Tensor, Tensor]: ...
    @abstractmethod
    def forward(
        self, x: Tensor, timesteps: Tensor, batch: PackedBatch, features_of: int | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """
        Args:
            x: (L, P) noisy tokens.
            timesteps: (S,) in [0, 1]; given tokens are at 0 whatever it says.
            batch: layout and conditions of the pack; its clean tokens, noise and timesteps are not read.
            features_of: also return the output of this block, counted from 0: for representation alignment.

        Returns:
            (L, num_outputs · P); with `features_of` also (L, D). A segment's rows are what it would get alone.
        """

    @abstractmethod
    def flops(self, batch: PackedBatch) -> int:
        """Matrix products of one forward pass over the pack; a multiplication and an addition are two."""

    @abstractmethod
    def activation_bytes(
        self,
        num_tokens: int,
        dtype: torch.dtype,
        losses: Losses,
        checkpoint_every: int,
        freeze: Callable[[nn.Module], None] | None = None,
    ) -> int:
        """About what a pack keeps for its backward pass.

        Args:
            num_tokens: L of the pack.
            dtype: of activations.
            losses: of the objective.
            checkpoint_every: every n-th block keeps its input alone; 0: none.
            freeze: makes a narrower model of the same names ready as the run's is; None: all of it trains.
        """

    @abstractmethod
    def workspace_bytes(self, num_tokens: int, dtype: torch.dtype) -> int:
        """The most that one kernel takes for a moment, besides its results."""

    @abstractmethod
    def adapted(self, source: ModelConfig, state: State, tubelet: Literal["central", "uniform"]) -> State:
        """Weights of another model of this kind in the shapes of this one, as far as they can be brought there.

        Args:
            source: settings of the other model.
            state: its weights.
            tubelet: how patches of one frame become patches of several.

        Raises:
            ValueError: the two models predict different numbers of values.
        """

    @abstractmethod
    def silence_additions(self, source: ModelConfig) -> None:
        """Parts that a model of `source` does not have start without effect."""

    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype | None = None, **about: Any) -> None:
        """Write `model.safetensors`, with parameters in `dtype` (None: as they are), and `config.json` with `about` as
        further entries.

        Both are written under another name first, so that what is there is whole, also after a power cut.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        sizes = {name: getattr(self, name) for name in ("channels", "text_dim", "num_outputs")}
        shape = {"model": self.config.model_dump(mode="json"), **sizes}
        text = json.dumps({"architecture": f"reelpack.{type(self).__name__}", **shape, **about}, indent=2) + "\n"
        partial = folder / ".model.safetensors.partial"
        parameters = {name: value.detach().to(dtype or value.dtype) for name, value in self.named_parameters()}
        write_tensors(self.state_dict() | parameters, partial, metadata={"format": "pt"})
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.rename(folder / "model.safetensors")
        write_text(str(folder / "config.json"), text)  # synchronises the folder's names, too

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """The model that `save_pretrained` wrote, ready to sample.

        Raises:
            ValueError: there is none, one of another version, or one of another kind.
        """
        folder = Path(folder)
        try:
            model = described(entries := json.loads((folder / "config.json").read_text()))
            load_state(model, load_file(folder / "model.safetensors"))
        except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
            raise ValueError(
                f"{folder}: cannot load a model from here ({error}); expected the config.json and model.safetensors "
                "that `reelpack train-export` writes"
            ) from error
        if not isinstance(model, cls):
            raise ValueError(f"{folder}: got a {entries['model']['kind']}; expected a {cls.__name__}")
        return model.eval()


def described(entries: Mapping[str, Any]) -> Denoiser:
    """The model of a `config.json`, with random weights.

    Raises:
        KeyError: an entry is missing.
        ValueError: settings of another version.
    """
    config: ModelConfig = TypeAdapter(ModelConfig).validate_python(entries["model"])
    model: Denoiser = config.build(**{name: entries[name] for name in ("channels", "text_dim", "num_outputs")})
    return model
