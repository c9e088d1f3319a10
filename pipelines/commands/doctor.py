"""`reelpack doctor`: try what curation needs on this machine and on the workers of Ray."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from pipelines.commands.options import AddressOption, ExecutorOption
from pipelines.console.tables import out
from pipelines.settings import resolved_config

if TYPE_CHECKING:
    from pipelines.inspection.doctor import Finding


def doctor(
    out: Annotated[str | None, typer.Option(help="folder or URL that datasets will be written to")] = None,
    executor: ExecutorOption = None,
    address: AddressOption = None,
) -> None:
    """Try what curation needs on this machine and on the workers of Ray: codecs, weights, GPU, disk."""
    from pipelines.inspection import doctor as examining

    resolved = resolved_config(None, None, executor=executor, address=address)
    if not show(examining.doctor(out, resolved.execute)):
        raise typer.Exit(1)


def show(findings: "Iterable[Finding]") -> bool:
    """Each finding as it is made; returns whether nothing failed."""
    colors = {"ok": "green", "warn": "yellow", "fail": "bold red"}
    is_well = True
    for one in findings:
        verdict = f"[{colors[one.verdict]}]{one.verdict:<4}[/]"
        out.print(f"{verdict}  {escape(one.where):<8}  {one.what:<15}  {escape(one.detail)}")
        is_well &= one.verdict != "fail"
    return is_well
