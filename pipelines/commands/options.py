"""The options that several commands share, and the settings that they resolve to.

A command resolves its settings before it imports its driver: drivers of models load torch, which takes seconds, and a
mistake in a setting is told at once.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pipelines.config import Config
    from pipelines.dataset import Step
    from pipelines.execute.base import ExecuteConfig

CONFIGS = Path(__file__).parents[1] / "configs"


def complete_config(incomplete: str) -> list[str]:
    """Names of the shipped configurations, for the shell; it completes files by itself."""
    return [path.stem for path in sorted(CONFIGS.glob("*.yaml")) if path.stem.startswith(incomplete)]


def complete_section(incomplete: str) -> list[str]:
    """Sections and keys, for the shell."""
    from pipelines.config import Config
    from pipelines.keys import ANY, paths

    return [path for path in dict.fromkeys(paths(Config)) if ANY not in path and path.startswith(incomplete)]


def complete_setting(incomplete: str) -> list[str]:
    """Keys that `--set` takes, for the shell."""
    return [f"{path}=" for path in complete_section(incomplete)]


ConfigOption = Annotated[
    str | None,
    typer.Option("--config", help="YAML file, or the name of a shipped one", autocompletion=complete_config),
]
DecoderOption = Annotated[
    str | None,
    typer.Option(
        "--autoencoder",
        metavar="NAME",
        help="what decodes, of the same latents: a folder of train-autoencoder, or settings; none: what made the "
        "latents of the run",
    ),
]
"""Of commands that write videos."""

SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="section.key=value; repeatable", autocompletion=complete_setting),
]
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


def resolved_config(
    file: str | None, overrides: list[str] | None, base: "Config | None" = None, /, **execute: object
) -> "Config":
    from pipelines.config import load_config

    given = [f"execute.{name}={value}" for name, value in execute.items() if value is not None]
    return load_config(file, [*(overrides or []), *given], base)


def as_last(dataset: str, step: "Step", file: str | None) -> "Config | None":
    """The settings with which a step ran last on a dataset, which are said; None where it never did, or `--config`
    gives them."""
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


def execute_config(overrides: list[str] | None, **execute: object) -> "ExecuteConfig":
    """How a command runs that takes all other settings from the dataset.

    Raises:
        ValueError: a setting of another section.
    """
    if others := [override for override in overrides or () if not override.strip().startswith("execute.")]:
        raise ValueError(f"--set {', '.join(others)}: expected execute.…; all other settings are those of the dataset")
    return resolved_config(None, overrides, **execute).execute


def local_first(
    file: str | None,
    overrides: list[str] | None,
    executor: str | None,
    address: str | None,
    base: "Config | None" = None,
) -> "Config":
    """For steps that run a model: in this process, unless a flag or `--set` says otherwise."""
    given = any(override.startswith("execute.executor=") for override in overrides or ())
    chosen = executor or (None if given else "ray" if address else "local")
    return resolved_config(file, overrides, base, executor=chosen, address=address)
