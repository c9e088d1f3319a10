"""`reelpack vacuum`: show or remove the files that nothing in a dataset refers to."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from pipelines.commands.options import DatasetArgument
from pipelines.console.tables import duration_text, out, size_text

if TYPE_CHECKING:
    from pipelines.inspection.vacuum import Orphan


def vacuum(
    dataset: DatasetArgument,
    delete: Annotated[bool, typer.Option("--delete", help="remove them; without it they are shown")] = False,
    older_than: Annotated[float, typer.Option(min=0, help="hours since a file was written, for it to go")] = 1,
) -> None:
    """Show the files that nothing in a dataset refers to (left by kills, or replaced); --delete removes them."""
    from pipelines.inspection import vacuum as vacuuming

    found = (vacuuming.vacuum if delete else vacuuming.orphans)(dataset, older_than * 3600)
    show(found, deleted=delete)


def show(found: Sequence["Orphan"], *, deleted: bool) -> None:
    table = Table("file", "size", "age", "why", "", box=None, pad_edge=False)
    for one in found:
        age = "" if one.age_s is None else duration_text(one.age_s)
        table.add_row(
            escape(one.path), size_text(one.num_bytes), age, one.why, "" if one.is_old else "kept: too recent"
        )
    if found:
        out.print(table)
    going = [one for one in found if one.is_old]
    size = size_text(sum(one.num_bytes for one in going))
    if deleted:
        out.print(f"{len(going)} files removed, {size}")
    elif going:
        out.print(f"{len(going)} files can go, {size}: --delete removes them")
    else:
        out.print("nothing to remove")
