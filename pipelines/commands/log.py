"""`reelpack log`: the versions of a dataset's decision."""

import json as to_json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from pipelines.commands.options import DatasetArgument
from pipelines.console.tables import duration_text, out

if TYPE_CHECKING:
    from pipelines.drivers.versions import Entry


def log(
    dataset: DatasetArgument,
    json: Annotated[bool, typer.Option("--json", help="a line of JSON for each, for scripts")] = False,
) -> None:
    """The versions of the decision: when, by which command, the settings that changed, and what is kept."""
    from pipelines.drivers import versions

    entries = versions.log(dataset)
    if json:
        for entry in entries:
            typer.echo(to_json.dumps(asdict(entry)))
        return
    for entry in reversed(entries):
        show(entry)
    if not entries:
        out.print("no version is recorded; `reelpack select` and `curate` record one")


def show(entry: "Entry") -> None:
    one = entry.version
    counts = ", ".join(f"{num} {name}" for name, num in one.counts.items() if num) or "no clips"
    release = f"reelpack {one.reelpack_version}" if one.reelpack_version else "an earlier reelpack"
    out.print(f"version {one.number}  {one.at}  {one.user}, {release}", markup=False)
    table = Table(show_header=False, box=None, pad_edge=False, padding=(0, 1, 0, 2))
    table.add_row("command", escape(one.command))
    table.add_row("clips", f"{counts}; {duration_text(one.kept_s)} kept")
    for setting in entry.changed:
        table.add_row("changed", escape(setting))
    out.print(table)
