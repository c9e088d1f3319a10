"""`reelpack diff`: what two versions of a dataset's decision differ in."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from pipelines.commands.options import DatasetArgument
from pipelines.console.tables import duration_text, out

if TYPE_CHECKING:
    from curate.dataset.decisions import Move


def diff(
    dataset: DatasetArgument,
    old: Annotated[int, typer.Argument(metavar="A", help="number of a version, of `reelpack log`")],
    new: Annotated[int, typer.Argument(metavar="B", help="number of another one")],
    list: Annotated[bool, typer.Option("--list", help="the ids of the clips that came in (+) and left (-)")] = False,
) -> None:
    """What version B keeps that A does not, and the other way round, by reason; and the settings that differ."""
    from curate.dataset.dataset import Dataset
    from curate.dataset.versions import difference, find_version
    from pipelines.drivers.versions import changed_settings

    found = Dataset(dataset)
    settings = changed_settings(find_version(found, old), find_version(found, new))
    moved = difference(found, old, new, ids=list)
    for setting in settings:
        out.print(f"{new} has {setting}", markup=False)
    if not settings:
        out.print("the settings are the same")
    table = Table("kept clips", "", "clips", "length", box=None, pad_edge=False)
    add(table, "came in", f"in {old}", moved.came)
    add(table, "left", f"in {new}", moved.left)
    out.print(table if table.row_count else "both keep the same clips")
    for sign, clip_ids in (("+", moved.came_ids), ("-", moved.left_ids)):
        for clip_id in clip_ids:
            typer.echo(f"{sign} {clip_id}")


def add(table: Table, name: str, where: str, moves: "Sequence[Move]") -> None:
    for move in moves:
        table.add_row(name, f"{escape(move.why)} {where}", str(move.num_clips), duration_text(move.seconds))
