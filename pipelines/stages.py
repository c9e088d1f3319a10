"""A training in stages, as a file: images, then small videos, then large and long ones.

Progressive training as in Video LDM (Blattmann et al. 2023, section 3) and W.A.L.T (Gupta et al. 2023, section 4):
each stage is a run of its own, with its data, sizes, steps and learning rate, and begins with the averaged weights of
the one before.

    dataset: FILM                  # of stages that name none; a list: several, mixed
    config: reelpack_dit           # settings of all stages: a file, or a shipped one
    stages:
      images:
        encode: {max_frames: 1}
        train: {steps: 8000}
      videos:
        encode: {max_frames: 17}
        train: {steps: 6500, optimizer: {lr: 1.0e-3}}
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from pipelines.config import Config, find_file, load_config


class StageSettings(BaseModel):
    """One stage; its sections are merged into those of all stages."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str | tuple[str, ...] | None = Field(None, description="null: that of the file")
    encode: dict[str, Any] | None = Field(
        None, description="encode the dataset so, and train on these latents; null: on those of train.data.latents"
    )
    text: dict[str, Any] = Field({}, description="section text")
    train: dict[str, Any] = Field({}, description="section train")


class StagesFile(BaseModel):
    """The file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str | tuple[str, ...] | None = Field(None, description="of stages that name none")
    config: str | None = Field(None, description="settings of all stages: a YAML file, or the name of a shipped one")
    stages: dict[str, StageSettings] = Field(min_length=1, description="by name, in their order")

    @field_validator("stages")
    @classmethod
    def _names_are_folders(cls, stages: dict[str, StageSettings]) -> dict[str, StageSettings]:
        if wrong := [name for name in stages if not re.fullmatch(r"\w[\w.-]*", name)]:
            raise ValueError(f"got the names {wrong}; expected letters, digits, dots and dashes: they are folders")
        return stages


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """A run of the training.

    Attributes:
        datasets: One, or several that are mixed.
        encodes: Whether its latents are those of `config.encode`.
        continues: Whether it begins with the weights of the stage before.
    """

    name: str
    datasets: tuple[str, ...]
    encodes: bool
    continues: bool
    config: Config


def read_stages(file: str | Path, overrides: Sequence[str] = ()) -> list[Stage]:
    """The stages of a file, all of them checked.

    Args:
        file: in YAML.
        overrides: `section.key=value`, of all stages.

    Raises:
        ValueError: no such file, unknown keys, wrong values, a stage without a dataset, or one whose model cannot
            begin with the weights of the one before.
    """
    found = _read(Path(file))
    base = None if found.config is None else load_config(_beside(Path(file), found.config))
    stages: list[Stage] = []
    for name, one in found.stages.items():
        tree = {"text": one.text, "train": one.train} | ({} if one.encode is None else {"encode": one.encode})
        try:
            config = load_config(tree, overrides, base)
        except ValueError as error:
            raise ValueError(f"{file}: stage {name}: {error}") from error
        dataset = one.dataset or found.dataset
        if dataset is None:
            raise ValueError(f"{file}: stage {name} has no dataset; give it one, or the file (dataset: DIRECTORY)")
        datasets = (dataset,) if isinstance(dataset, str) else dataset
        continues = bool(stages) and config.train.init is None
        if continues:
            _check_models(f"{file}: stage {name}", stages[-1], config)
        stages.append(
            Stage(name=name, datasets=datasets, encodes=one.encode is not None, continues=continues, config=config)
        )
    return stages


def _read(file: Path) -> StagesFile:
    try:
        tree = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"{file}: cannot be read as YAML ({error}); expected a file with `stages:`") from error
    if not isinstance(tree, dict) or "stages" not in tree:
        raise ValueError(f"{file}: has no `stages:`; expected names of stages with `train:` and `encode:` of each")
    try:
        return StagesFile.model_validate(tree)
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise ValueError(
            f"{file}: {told}; expected dataset, config and stages, each with encode, text, train"
        ) from None


def _beside(file: Path, config: str) -> str | Path:
    """A path that is relative to the file, or what `find_file` takes."""
    near = file.parent / config
    return near if near.is_file() else find_file(config)


def _check_models(where: str, before: Stage, config: Config) -> None:
    theirs, ours = before.config.train.model, config.train.model
    if theirs.kind != ours.kind:
        raise ValueError(f"{where}: its model is a {ours.kind}, that of stage {before.name} a {theirs.kind}")
    if different := ours.differing(theirs):
        told = ", ".join(f"{name} {mine!r}, before {other!r}" for name, (other, mine) in different.items())
        raise ValueError(
            f"{where} begins with the weights of stage {before.name}, and train.model has {told}; set it as there, or "
            "give the stage a train.init of its own"
        )
