"""A family of published models, as diffusers has them: what a model of theirs is in ours, tensor by tensor.

A new family is a file with its class, and a line in `train/convert/families.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from train.convert.ties import Tie
from train.model.dit_config import DiTConfig
from train.objective.config import AnyObjective


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """What one of our models is built from."""

    config: DiTConfig
    channels: int
    text_dim: int
    num_outputs: int = 1


class Family(ABC):
    """Models of one class of diffusers."""

    class_name: ClassVar[str]
    """The class, which `_class_name` of a config.json names."""
    text: ClassVar[Mapping[str, Any]]
    """Settings of the text encoder with which captions become what its pipelines make of them."""
    required: ClassVar[Mapping[str, Any]]
    """Entries of config.json that have one value here."""
    absent: ClassVar[Mapping[str, Any]] = {}
    """Values of those that are not there, where they are not the required ones."""
    of_images: ClassVar[bool] = False
    """The models know single frames alone."""
    published: ClassVar[Mapping[str, str]] = {}
    """Parts of names: of diffusers, and of the code that the model was published with, which ComfyUI keeps."""

    @abstractmethod
    def shape(self, config: Mapping[str, Any]) -> Shape:
        """The model of ours that has the outputs of theirs.

        Args:
            config: their config.json, whose `required` entries are right.

        Raises:
            KeyError: an entry is missing.
            ValueError: the model has parts that ours have not.
        """

    @abstractmethod
    def entries(self, shape: Shape) -> dict[str, Any]:
        """config.json of the model of theirs that has the outputs of ours, without its class and `required`."""

    @abstractmethod
    def ties(self, shape: Shape) -> list[Tie]:
        """All tensors of the model, each once."""

    @abstractmethod
    def objective(self, shape: Shape, scheduler: Mapping[str, Any]) -> AnyObjective:
        """What the model was trained to predict.

        Args:
            shape: of the model.
            scheduler: scheduler_config.json of its pipeline; empty: there is none.
        """

    def read(self, config: Mapping[str, Any]) -> Shape:
        """`shape`, of a config.json that is checked.

        Raises:
            ValueError: names what is missing, or has another value than here.
        """
        given = {**self.required, **self.absent, **config}
        if wrong := {name: given[name] for name, value in self.required.items() if given[name] != value}:
            expected = {name: self.required[name] for name in wrong}
            raise ValueError(f"config.json: got {wrong}; of {self.class_name} only {expected} is taken")
        try:
            return self.shape(config)
        except KeyError as error:
            raise ValueError(f"config.json: no entry {error}, which a {self.class_name} has") from error

    def config_json(self, shape: Shape) -> dict[str, Any]:
        """The whole config.json."""
        return {"_class_name": self.class_name, **self.required, **self.entries(shape)}


def mlp_ratio(hidden: int, width: int) -> float:
    """The ratio by which a `DiTConfig` of `width` gets exactly `hidden` features."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else (hidden + 0.5) / width
