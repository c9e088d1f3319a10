"""`reelpack config`: what can be configured, with defaults, units and descriptions."""

import json
from typing import Annotated

import typer

from pipelines.commands.options import complete_section


def config(
    section: Annotated[
        str, typer.Argument(help="such as train.optimizer; none: all", autocompletion=complete_section)
    ] = "",
    schema: Annotated[bool, typer.Option("--schema", help="a JSON schema, for editors")] = False,
) -> None:
    """Print the keys of a section with defaults, units and descriptions, as YAML that `--config` reads."""
    from pipelines import describe

    typer.echo(json.dumps(describe.schema(section), indent=1) if schema else describe.described(section))
