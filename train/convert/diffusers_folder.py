"""A model's folder as diffusers writes it, to one of ours and back: equal outputs, and the same bits again.

    FOLDER/config.json  diffusion_pytorch_model.safetensors

Its `_class_name` names the family. Tensors are read one by one into a model that holds nothing yet, so that a model is
in memory once.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from curate.storage.publish import write_text
from curate.storage.tensors import write_tensors
from train.convert.families import FAMILIES
from train.convert.family import Family, Shape
from train.convert.ties import Tie
from train.convert.weights import STEM, Weights
from train.model.dit import DiT
from train.objective.config import AnyObjective
from train.run.load_state import parameters_on_meta, some

CLASS_NAMES = tuple(family.class_name for family in FAMILIES)
UNWRITTEN = frozenset({"text_padding", "max_grid", "adaln_rank", "frame_lag"})
"""Settings that a config.json does not have: they are no property of the weights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Imported:
    """A model, and the objective that it was trained for."""

    model: DiT
    objective: AnyObjective


def family_of(config: Mapping[str, Any]) -> Family | None:
    """That of a config.json; None: there is none of its class."""
    return next((one for one in FAMILIES if one.class_name == config.get("_class_name")), None)


def read_folder(folder: Path, family: Family, config: Mapping[str, Any]) -> Imported:
    """The model of a folder of diffusers, in the types that its tensors have.

    Args:
        folder: of the model; the scheduler of its pipeline is beside it.
        family: by `family_of`.
        config: its config.json.

    Raises:
        ValueError: the model has parts that ours have not, or tensors are missing, unknown or of another shape.
    """
    try:
        shape = family.read(config)
        with parameters_on_meta():
            model = _built(shape)
        ties = family.ties(shape)
        with Weights(folder) as weights:
            _check(ties, model, weights)
            state = {tie.ours: tie.take([weights[name] for name in tie.theirs]) for tie in ties}
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    model.load_state_dict(state, assign=True)
    return Imported(model=model.eval(), objective=family.objective(shape, _scheduler(folder)))


def family_like(model: DiT) -> tuple[Family, Shape]:
    """The family that has a model with these outputs.

    Raises:
        ValueError: there is none; says how the model differs from the nearest one.
    """
    shape = Shape(config=model.config, channels=model.channels, text_dim=model.text_dim, num_outputs=model.num_outputs)
    differing = [(told, family) for family in FAMILIES if (told := _differing(family, shape)) is not None]
    told, family = min(differing, key=lambda pair: len(pair[0]), default=(["other parts"], FAMILIES[0]))
    if told:
        raise ValueError(
            f"no class of diffusers has the outputs of this model. The nearest is {family.class_name}, which has "
            f"{', '.join(told)}"
        )
    return family, shape


def to_diffusers(model: DiT, origin: Mapping[str, Any] | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and config.json of a model of diffusers with the same outputs.

    Args:
        model: of a family.
        origin: a config.json, which is kept if it is of such a model: a pipeline reads its default size there.

    Raises:
        ValueError: as `family_like`.
    """
    family, shape = family_like(model)
    state = model.state_dict()
    theirs = {
        name: tensor
        for tie in family.ties(shape)
        for name, tensor in zip(tie.theirs, tie.give(state[tie.ours]), strict=True)
    }
    if origin is not None and _describes(origin, family, shape):
        return theirs, dict(origin)
    return theirs, family.config_json(shape)


def write_folder(folder: Path, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Write what a class of diffusers opens by `from_pretrained`."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{STEM}.safetensors.partial"
    write_tensors(state, partial, metadata={"format": "pt"})
    partial.rename(folder / f"{STEM}.safetensors")
    write_text(str(folder / "config.json"), json.dumps(dict(config), indent=2) + "\n")


def _built(shape: Shape) -> DiT:
    return DiT(shape.config, channels=shape.channels, text_dim=shape.text_dim, num_outputs=shape.num_outputs)


def _check(ties: list[Tie], model: DiT, weights: Weights) -> None:
    """See, before anything is read, that the tensors are those of the model.

    Raises:
        ValueError: names those that are missing, unknown or of another shape.
    """
    ours = model.state_dict()
    assert {tie.ours for tie in ties} == ours.keys(), "a family ties every tensor of its model"
    expected = {
        name: tuple(tensor.shape)
        for tie in ties
        for name, tensor in zip(tie.theirs, tie.give(ours[tie.ours]), strict=True)
    }
    there = weights.shapes
    shapes = [
        f"{name} {there[name]} (config.json says {expected[name]})"
        for name in sorted(expected.keys() & there.keys())
        if expected[name] != there[name]
    ]
    missing, unknown = sorted(expected.keys() - there.keys()), sorted(there.keys() - expected.keys())
    found = {"they lack": missing, "unknown are": unknown, "of another shape are": shapes}
    if told := "; ".join(f"{what} {some(names)}" for what, names in found.items() if names):
        raise ValueError(f"the weights are not of the model in config.json: {told}")


def _differing(family: Family, shape: Shape) -> list[str] | None:
    """In what the family's model of the same sizes is another one; None: it has no such sizes."""
    try:
        theirs = family.read(family.config_json(shape))
    except ValueError:
        return None
    here, there = (_comparable(one) for one in (shape, theirs))
    return [f"{name}={there[name]} (here {here[name]})" for name in here if here[name] != there[name]]


def _describes(config: Mapping[str, Any], family: Family, shape: Shape) -> bool:
    try:
        return family_of(config) is family and _comparable(family.read(config)) == _comparable(shape)
    except ValueError:
        return False


def _comparable(shape: Shape) -> dict[str, Any]:
    config = shape.config.model_dump(mode="json", exclude=set(UNWRITTEN))
    config["mixer"].pop("kernel", None)
    return config | {name: getattr(shape, name) for name in ("channels", "text_dim", "num_outputs")}


def _scheduler(folder: Path) -> Mapping[str, Any]:
    """scheduler_config.json of the pipeline that the folder is in; empty: there is none."""
    path = folder.parent / "scheduler" / "scheduler_config.json"
    try:
        found: Mapping[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    except ValueError as error:
        raise ValueError(f"{path}: is no JSON ({error}); fetch it again") from error
    return found
