"""The options that several commands share, and the settings that they resolve to.

A command resolves its settings before it imports its driver: drivers of models load torch, which takes seconds, and a
mistake in a setting is told at once.
"""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pipelines.config import Config
    from pipelines.execute.base import ExecuteConfig

ConfigOption = Annotated[str | None, typer.Option("--config", help="YAML file, or the name of a shipped one")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="section.key=value; repeatable")]
ExecuteSetOption = Annotated[list[str] | None, typer.Option("--set", help="execute.key=value; repeatable")]
ExecutorOption = Annotated[str | None, typer.Option(help="ray or local")]
AddressOption = Annotated[str | None, typer.Option(help="Ray cluster to join, such as auto or HOST:6379")]
DropFailedOption = Annotated[
    bool, typer.Option("--drop-failed", help="clips may leave the index because of failures alone")
]
LocalExecutorOption = Annotated[str | None, typer.Option(help="local (the default) or ray (with --address)")]
StepOption = Annotated[
    int | None, typer.Option(help="the checkpoint after this step (train.checkpoint.keep_every); none: the newest")
]
DatasetArgument = Annotated[str, typer.Argument(help="dataset directory")]
DatasetsArgument = Annotated[
    list[str],
    typer.Argument(help="dataset directory; several are mixed: --set 'train.data.mix={films: 3, stock: 1}'"),
]


def resolved_config(file: str | None, overrides: list[str] | None, **execute: object) -> "Config":
    from pipelines.config import load_config

    given = [f"execute.{name}={value}" for name, value in execute.items() if value is not None]
    return load_config(file, [*(overrides or []), *given])


def execute_config(overrides: list[str] | None, **execute: object) -> "ExecuteConfig":
    """How a command runs that takes all other settings from the dataset.

    Raises:
        ValueError: a setting of another section.
    """
    if others := [override for override in overrides or () if not override.strip().startswith("execute.")]:
        raise ValueError(f"--set {', '.join(others)}: expected execute.…; all other settings are those of the dataset")
    return resolved_config(None, overrides, **execute).execute


def local_first(file: str | None, overrides: list[str] | None, executor: str | None, address: str | None) -> "Config":
    """For steps that run a model: in this process, unless a flag or `--set` says otherwise."""
    given = any(override.startswith("execute.executor=") for override in overrides or ())
    chosen = executor or (None if given else "ray" if address else "local")
    return resolved_config(file, overrides, executor=chosen, address=address)
