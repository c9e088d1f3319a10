"""What the options of a command, and the keywords of the Python API, come to: resolved settings.

They are resolved before a driver is imported: drivers of models load torch, which takes seconds, and a mistake in a
setting is told at once.
"""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from pipelines.config import Config
    from pipelines.dataset import Step
    from pipelines.execute.base import ExecuteConfig

File = str | os.PathLike[str] | Mapping[str, Any]
"""A YAML file, the name of a shipped one, or what one says."""
Settings = Sequence[str] | Mapping[str, Any]
"""`section.key=value`, as `--set` takes it; or values by `section.key`."""


def resolved_config(
    file: File | None, settings: Settings | None, base: "Config | None" = None, /, **execute: object
) -> "Config":
    """The configuration; `execute` are further settings of that section, none where None.

    Raises:
        ValueError: as `pipelines.config.load_config`.
    """
    from pipelines.config import load_config

    given = [f"execute.{name}={value}" for name, value in execute.items() if value is not None]
    return load_config(file, [*as_overrides(settings), *given], base)


def as_overrides(settings: Settings | None) -> list[str]:
    """What `--set` takes for the same.

    Raises:
        ValueError: a value that has no YAML.
    """
    if isinstance(settings, Mapping):
        return [f"{path}={_as_yaml(path, value)}" for path, value in settings.items()]
    return [settings] if isinstance(settings, str) else [*(settings or ())]


def _as_yaml(path: str, value: Any) -> str:
    plain = os.fspath(value) if isinstance(value, os.PathLike) else value
    try:
        text = yaml.safe_dump(plain, default_flow_style=True, allow_unicode=True, width=float("inf"), sort_keys=False)
    except yaml.YAMLError:
        kind = type(value).__name__
        raise ValueError(f"{path}: got {kind}; expected texts, numbers, true, false, None, lists and dicts") from None
    return text.removesuffix("\n").removesuffix("\n...")


def as_last(dataset: str, step: "Step", file: File | None) -> "Config | None":
    """The settings with which a step ran last on a dataset, which are said; None where it never did, or a file gives
    them."""
    from curate.dataset.dataset import Dataset
    from pipelines.config import overrides
    from pipelines.console.progress import console
    from pipelines.dataset import step_config

    if file is not None:
        return None
    config = step_config(Dataset(dataset), step)
    kept = overrides(config)
    if kept:
        told = " ".join(kept)
        console.print(f"{step}: as it ran last, with {told}", highlight=False, markup=False, soft_wrap=True)
    return config


def execute_config(settings: Settings | None, **execute: object) -> "ExecuteConfig":
    """How a command runs that takes all other settings from the dataset.

    Raises:
        ValueError: a setting of another section.
    """
    given = as_overrides(settings)
    if others := [override for override in given if not override.strip().startswith("execute.")]:
        raise ValueError(f"--set {', '.join(others)}: expected execute.…; all other settings are those of the dataset")
    return resolved_config(None, given, **execute).execute


def local_first(
    file: File | None,
    settings: Settings | None,
    executor: str | None = None,
    address: str | None = None,
    base: "Config | None" = None,
) -> "Config":
    """For steps that run a model: in this process, unless `executor` or a setting says otherwise."""
    given = as_overrides(settings)
    is_set = any(override.startswith("execute.executor=") for override in given)
    chosen = executor or (None if is_set else "ray" if address else "local")
    return resolved_config(file, given, base, executor=chosen, address=address)
