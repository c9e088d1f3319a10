"""The one root configuration: defaults < YAML file < dotted `--set section.key=value`.

Every component owns its configuration; this file only names the sections. A key that no component knows is an error
that names the nearest valid one, before any work starts. The resolved configuration is saved with every output.
"""

import difflib
import json
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from caption.captioner import CaptionConfig
from curate.cut import ShardConfig
from curate.dedup.config import DedupConfig
from curate.encoders.text import TextEncoderConfig
from curate.scan import ScanConfig
from curate.scores.config import ScoreConfig
from curate.select import SelectConfig
from pipelines.execute.base import ExecuteConfig
from pipelines.inputs.sidecar_file import SidecarConfig
from train.autoencoder.config import EncodeConfig
from train.run.config import SampleConfig, TrainConfig

POLICY_SECTIONS = ("select", "dedup")
"""What `reelpack select` may change: nothing has to be decoded for it."""


class Config(BaseModel):
    """Everything that can be configured, one section per component."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scan: ScanConfig = ScanConfig()
    score: ScoreConfig = ScoreConfig()
    dedup: DedupConfig = DedupConfig()
    select: SelectConfig = SelectConfig()
    shards: ShardConfig = ShardConfig()
    sidecar: SidecarConfig = SidecarConfig()
    execute: ExecuteConfig = ExecuteConfig()
    caption: CaptionConfig = CaptionConfig()
    encode: EncodeConfig = EncodeConfig()
    text: TextEncoderConfig = TextEncoderConfig()
    train: TrainConfig = TrainConfig()
    sample: SampleConfig = SampleConfig()


def load_config(file: str | Path | None = None, overrides: Sequence[str] = (), base: Config | None = None) -> Config:
    """Resolve the configuration.

    Args:
        file: YAML file, or the name of one in `pipelines/configs/` without its ending; None: defaults only.
        overrides: `section.key=value`, the value in YAML.
        base: what file and overrides change; None: the defaults.

    Raises:
        ValueError: unreadable file, unknown key (with the nearest valid one), or a value out of range.
    """
    tree: dict[str, Any] = {}
    if file is not None:
        path = find_file(file)
        try:
            tree = yaml.safe_load(path.read_text()) or {}
        except yaml.YAMLError as error:
            raise ValueError(f"{path} is not YAML: {error}") from error
        if not isinstance(tree, dict):
            raise ValueError(f"{path}: got {type(tree).__name__}, expected sections such as `select:`")
    given: dict[str, Any] = {}
    for override in overrides:
        _apply(given, override)
    try:
        return Config.model_validate(_merge(_merge((base or Config()).model_dump(mode="json"), tree), given))
    except ValidationError as error:
        raise ValueError("\n".join(_explain(detail) for detail in error.errors())) from error


def overrides(config: Config, base: Config | None = None) -> list[str]:
    """What `--set` takes to make `config` out of `base` (None: the defaults): the inverse of `load_config`."""
    return list(differences(config.model_dump(mode="json"), (base or Config()).model_dump(mode="json"), ""))


def differences(value: Any, base: Any, path: str) -> Iterator[str]:
    """`dotted.path=value` for what is another in a tree of settings than in `base`."""
    is_section = isinstance(value, dict) and isinstance(base, dict) and value.keys() == base.keys()
    if is_section and value.get("kind") == base.get("kind"):
        for name in value:
            yield from differences(value[name], base[name], f"{path}.{name}" if path else name)
    elif value != base:
        is_plain = isinstance(value, str) and yaml.safe_load(value) == value
        yield f"{path}={value if is_plain else json.dumps(value, ensure_ascii=False)}"


def find_file(file: str | Path) -> Path:
    """A path as given, or `pipelines/configs/<name>.yaml`."""
    shipped = Path(__file__).parent / "configs"
    for path in (Path(file), shipped / f"{file}.yaml"):
        if path.is_file():
            return path
    names = sorted(path.stem for path in shipped.glob("*.yaml"))
    raise ValueError(f"configuration {file}: no such file, and none of the shipped ones ({', '.join(names)})")


def dump(config: BaseModel) -> str:
    """YAML of the resolved values; `load_config` reads it back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _merge(base: Any, given: Any) -> Any:
    """Sections are merged key by key; values, lists, and a section of another `kind` replace what was there."""
    if (
        not isinstance(base, dict)
        or not isinstance(given, dict)
        or given.get("kind", base.get("kind")) != base.get("kind")
    ):
        return given
    return base | {name: _merge(base.get(name), value) for name, value in given.items()}


def _apply(tree: dict[str, Any], override: str) -> None:
    path, equals, value = override.partition("=")
    if not equals:
        raise ValueError(f"--set {override}: expected section.key=value")
    *parents, leaf = path.strip().split(".")
    node = tree
    for name in parents:
        child = node.setdefault(name, {})
        if not isinstance(child, dict):
            raise ValueError(f"--set {override}: {name} is a value ({child!r}), not a section")
        node = child
    try:
        node[leaf] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ValueError(f"--set {override}: the value is not YAML; quote it: --set '{path}=\"{value}\"'") from error


def _explain(detail: ErrorDetails) -> str:
    path = _dotted(detail["loc"])
    if detail["type"] == "value_error":  # of a validator, which says what it got
        return f"{path}: {detail['ctx']['error']}"
    if detail["type"] != "extra_forbidden":
        return f"{path}: {detail['msg']} (got {detail['input']!r})"
    nearest = difflib.get_close_matches(path, list(_paths(Config)), n=1)
    if nearest:
        return f"{path}: unknown key; the nearest valid one is {nearest[0]}"
    return f"{path}: unknown key; the sections are {', '.join(Config.model_fields)}"


def _dotted(location: tuple[int | str, ...]) -> str:
    """The path as a user writes it: without the tags that pydantic puts in for the members of unions."""
    known, parts = set(_paths(Config)), list[str]()
    for position, part in enumerate(location):
        if position == len(location) - 1 or isinstance(part, int) or ".".join([*parts, part]) in known:
            parts.append(str(part))
    return ".".join(parts)


def _paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted names of all fields, through nested models and the members of unions."""
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        for child in _models(field.annotation):
            yield from _paths(child, f"{prefix}{name}.")


def _models(annotation: Any) -> Iterable[type[BaseModel]]:
    if get_origin(annotation) in (Union, types.UnionType, Annotated, tuple, list, dict, Mapping):
        return [model for part in get_args(annotation) for model in _models(part)]
    return [annotation] if isinstance(annotation, type) and issubclass(annotation, BaseModel) else []
