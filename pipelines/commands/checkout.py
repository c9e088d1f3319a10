"""`reelpack checkout`: decide by the settings of an earlier version."""

from typing import Annotated

import typer

from pipelines.commands import select
from pipelines.commands.options import DatasetArgument
from pipelines.commands.without_pandas import WithoutPandas
from pipelines.console.tables import out


@WithoutPandas()
def checkout(
    dataset: DatasetArgument,
    version: Annotated[int, typer.Argument(help="its number, of `reelpack log`")],
) -> None:
    """Decide by the settings of a version, from stored scores: it becomes the newest version; decodes nothing."""
    from curate.dataset.dataset import Dataset
    from pipelines.drivers import versions

    found = versions.checkout(dataset, version)
    select.show(found.decided, Dataset(dataset))
    if found.num_unlike:
        out.print(
            f"{found.num_unlike} clips are decided otherwise than in version {version}: videos, scores or captions "
            "came or went since"
        )
    else:
        out.print(f"every clip is decided as in version {version}")
    if not found.decided.after.get("keep"):
        raise typer.Exit(1)
