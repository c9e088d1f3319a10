"""`reelpack upsample`: short prompts as captions in the style of a run."""

from typing import Annotated

import typer

from pipelines.commands.options import ConfigOption, SetOption
from pipelines.settings import resolved_config


def upsample(
    prompt: Annotated[list[str], typer.Argument(help="what to show; several prompts give several captions")],
    run: Annotated[str, typer.Option(help="run directory of a training")],
    config: ConfigOption = None,
    set: SetOption = None,
) -> None:
    """Write short prompts as captions in the style that a run was trained on."""
    resolved = resolved_config(config, set).upsample
    from pipelines.drivers.upsample import upsample_prompts

    results = upsample_prompts(run, prompt, resolved)
    for result in results:
        typer.echo(result.text)
        if result.reason:
            typer.echo(f"unchanged: {result.reason}", err=True)
    if any(result.is_refused for result in results):
        raise typer.Exit(1)
