"""`reelpack verify`: check that index, shards, tables, captions and latents agree."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.commands.options import DatasetArgument, ExecuteSetOption
from pipelines.console.tables import out
from pipelines.settings import execute_config

if TYPE_CHECKING:
    from pipelines.inspection.verify import Check

MAX_PROBLEMS = 40


def verify(
    dataset: DatasetArgument,
    sample: Annotated[int, typer.Option(min=0, help="inputs, clips and latents whose bytes are read")] = 32,
    full: Annotated[bool, typer.Option("--full", help="all of them")] = False,
    set: ExecuteSetOption = None,
) -> None:
    """Check that index, shards, tables, captions and latents agree, and that ids are those of the content."""
    from pipelines.inspection import verify as verifying

    if show(verifying.verify(dataset, None if full else sample, execute_config(set).staging)):
        raise typer.Exit(1)


def show(checks: "Iterable[Check]") -> int:
    """Each check as it is done; returns the number of problems."""
    num_problems = 0
    for check in checks:
        skipped = f", {check.num_skipped} out of reach" if check.num_skipped else ""
        verdict = f"{len(check.problems)} problems" if check.problems else "ok"
        out.print(f"{check.what}: {check.num_checked} compared{skipped}: {verdict}", markup=False)
        for problem in check.problems[:MAX_PROBLEMS]:
            out.print(f"  {problem}", markup=False)
        if len(check.problems) > MAX_PROBLEMS:
            out.print(f"  … and {len(check.problems) - MAX_PROBLEMS} more")
        num_problems += len(check.problems)
    return num_problems
