"""The options that several commands share. What they come to: `pipelines.settings`."""

from pathlib import Path
from typing import Annotated

import typer

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
