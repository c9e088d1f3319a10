"""The one root configuration: defaults < YAML file < dotted `--set section.key=value`.

Every component owns its configuration; this file only names the sections. A key that no component knows is an error
that names the nearest valid one, before any work starts. The resolved configuration is saved with every output.
"""

import copy
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from caption.config import CaptionConfig
from caption.finetune.config import CaptionerTrainConfig
from caption.upsample import UpsampleConfig
from curate.columns import COLUMNS
from curate.cut import ShardConfig
from curate.dedup.config import DedupConfig
from curate.encoders.text_config import TextEncoderConfig
from curate.media.readers.config import MediaConfig
from curate.scan import ScanConfig
from curate.scores.config import ScoreConfig, named_by_kind
from curate.select import SelectConfig
from pipelines.execute.base import ExecuteConfig
from pipelines.inputs.sidecar_file import SidecarConfig
from pipelines.keys import explain
from train.autoencoder.config import EncodeConfig
from train.autoencoder.training.config import TrainAutoencoderConfig
from train.clip.config import TrainClipConfig
from train.evaluate.quality.config import MeasureConfig
from train.run.config import TrainConfig
from train.sampling.config import SampleConfig

RENAMED: Mapping[str, str] = MappingProxyType(
    {
        f"select.{name}": f"select.rules.{name}"
        for name in (
            *("duration_s", "short_side_px", "motion", "camera_motion", "local_motion", "sharpness", "luminance"),
            *("black_fraction", "freeze_fraction", "flash_rate", "fade_fraction", "interlaced_fraction"),
            *("letterbox_fraction", "text_match", "brisque", "static_overlay", "text_area", "text_area_max"),
            *("nsfw", "aesthetic"),
        )
    }
    | {"caption.visible": "caption.checks.visible", "caption.num_frames": "caption.frames.num_frames"}
)
"""Key of an earlier reelpack → its name now. A setting that is given is refused with the new name; settings that a
dataset has saved are read."""

WHOLE = frozenset({"train.data.blend", "train_clip.levels"})
"""Sections whose values make one whole: a given one replaces the one before, and what it leaves out has the default of
its own model."""

CURATION_SECTIONS = ("scan", "score", "dedup", "select", "shards", "sidecar", "media", "execute")
"""What `reelpack curate` runs with, and what a dataset saves of it."""

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
    media: MediaConfig = MediaConfig()
    execute: ExecuteConfig = ExecuteConfig()
    caption: CaptionConfig = CaptionConfig()
    train_captioner: CaptionerTrainConfig = CaptionerTrainConfig()
    train_clip: TrainClipConfig = TrainClipConfig()
    train_autoencoder: TrainAutoencoderConfig = TrainAutoencoderConfig()
    encode: EncodeConfig = EncodeConfig()
    text: TextEncoderConfig = TextEncoderConfig()
    train: TrainConfig = TrainConfig()
    sample: SampleConfig = SampleConfig()
    evaluate: MeasureConfig = MeasureConfig()
    upsample: UpsampleConfig = UpsampleConfig()


def load_config(
    file: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    base: Config | None = None,
) -> Config:
    """Resolve the configuration.

    Args:
        file: YAML file, or the name of one in `pipelines/configs/` without its ending, or what one says; None:
            defaults only.
        overrides: `section.key=value`, the value in YAML.
        base: what file and overrides change; None: the defaults.

    Raises:
        ValueError: unreadable file, unknown key (with the nearest valid one), or a value out of range.
    """
    tree: dict[str, Any] = {}
    if isinstance(file, Mapping):
        tree = dict(file)
    elif file is not None:
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
    _refuse_renamed(tree)
    _refuse_renamed(given)
    try:
        return Config.model_validate(_merge(_merge((base or Config()).model_dump(mode="json"), tree), given))
    except ValidationError as error:
        columns = [f"select.rules.{name}" for name in COLUMNS]
        raise ValueError("\n".join(explain(one, Config, columns) for one in error.errors())) from error


def upgraded(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that an earlier reelpack saved, under the keys of this one."""
    tree = copy.deepcopy(dict(saved))
    for old, new in RENAMED.items():
        *parents, leaf = old.split(".")
        node = _node(tree, parents)
        if node is not None and leaf in node:
            moved: Any = node.pop(leaf)
            for name in reversed(new.split(".")):
                moved = {name: moved}
            tree = _merge(tree, moved)
    if (encode := _node(tree, ["encode"])) is not None:
        encode.setdefault("windows", "middle")  # before there was a choice
    score = _node(tree, ["score"])
    if score is not None and isinstance(score.get("scorers"), list):
        tree["score"] = {**score, "scorers": named_by_kind(score["scorers"])}
    return tree


def overrides(config: Config, base: Config | None = None) -> list[str]:
    """What `--set` takes to make `config` out of `base` (None: the defaults): the inverse of `load_config`."""
    before, sparse = (base or Config()).model_dump(mode="json"), config.model_dump(mode="json", exclude_defaults=True)
    return list(differences(_short(config.model_dump(mode="json"), sparse, before), before, ""))


def _short(value: Any, sparse: Any, base: Any) -> Any:
    """A tree of settings in which sections of another `kind` than in `base` lack what is their own default, as in
    `sparse`: they replace those of `base` as a whole."""
    if not isinstance(value, dict) or not isinstance(sparse, dict) or value == base:
        return value
    if "kind" in value and (not isinstance(base, dict) or value["kind"] != base.get("kind")):
        return _with_kinds(sparse, value)
    others = base if isinstance(base, dict) else {}
    return {name: _short(child, sparse.get(name), others.get(name)) for name, child in value.items()}


def _with_kinds(sparse: Any, value: Any) -> Any:
    """`sparse`, whose sections lack what is their default, with the `kind` that each of them has in `value`."""
    if not isinstance(sparse, dict):
        return sparse
    kind = {"kind": value["kind"]} if "kind" in value else {}
    return {**kind, **{name: _with_kinds(child, value[name]) for name, child in sparse.items()}}


def differences(value: Any, base: Any, path: str) -> Iterator[str]:
    """`dotted.path=value` for what is another in a tree of settings than in `base`.

    A key that only `base` has is set to null: a table of settings by name takes that for its removal.
    """
    are_sections = isinstance(value, dict) and isinstance(base, dict) and value.get("kind") == base.get("kind")
    are_sections = are_sections and path not in WHOLE
    if are_sections and all(map(str.isidentifier, value.keys() ^ base.keys())):
        for name in [*value, *(name for name in base if name not in value)]:
            yield from differences(value.get(name), base.get(name), _below(path, name))
    elif are_sections and value != base:
        yield f"{path}={json.dumps(dict.fromkeys(base) | value, ensure_ascii=False)}"
    elif value != base:
        is_plain = isinstance(value, str) and yaml.safe_load(value) == value
        yield f"{path}={value if is_plain else json.dumps(value, ensure_ascii=False)}"


def find_file(file: str | os.PathLike[str]) -> Path:
    """A path as given, or `pipelines/configs/<name>.yaml`."""
    shipped = Path(__file__).parent / "configs"
    for path in (Path(file), shipped / f"{file}.yaml"):
        if path.is_file():
            return path
    names = sorted(path.stem for path in shipped.glob("*.yaml"))
    raise ValueError(f"configuration {file}: no such file, and none of the shipped ones ({', '.join(names)})")


def dump(config: BaseModel) -> str:
    """YAML of the resolved values; `load_config` reads it back."""
    tree = config.model_dump(mode="json")
    if isinstance(config, Config):
        tree = _with_removed(tree, Config().model_dump(mode="json"))
    return yaml.safe_dump(tree, sort_keys=False)


def _with_removed(value: Any, base: Any, path: str = "") -> Any:
    """A tree of settings with null for each name of a table that only `base` has: else a merge would keep it."""
    are_sections = isinstance(value, dict) and isinstance(base, dict) and value.get("kind") == base.get("kind")
    if not are_sections or path in WHOLE:
        return value
    kept = {name: _with_removed(child, base.get(name), _below(path, name)) for name, child in value.items()}
    return kept | {name: None for name in base if name not in value}


def _merge(base: Any, given: Any, path: str = "") -> Any:
    """Sections are merged key by key; values, lists, sections of another `kind` and those of `WHOLE` replace what was
    there."""
    if (
        not isinstance(base, dict)
        or not isinstance(given, dict)
        or given.get("kind", base.get("kind")) != base.get("kind")
        or path in WHOLE
    ):
        return given
    return base | {name: _merge(base.get(name), value, _below(path, name)) for name, value in given.items()}


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _refuse_renamed(tree: Mapping[str, Any]) -> None:
    for old, new in RENAMED.items():
        *parents, leaf = old.split(".")
        node = _node(tree, parents)
        if node is not None and leaf in node:
            raise ValueError(f"{old}: is called {new} now")


def _node(tree: Any, path: Sequence[str]) -> Any:
    """The section at a path; None where there is none."""
    for name in path:
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return tree if isinstance(tree, Mapping) else None


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
