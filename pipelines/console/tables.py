"""What commands print with: standard output, and the tables and numbers that several of them show."""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from pipelines.inspection.failures import FailureGroup
    from pipelines.inspection.status import Status

WIDE = 10_000
"""Columns where stdout is no terminal: no line is folded in what other programs read."""

out = Console(highlight=False, soft_wrap=True, emoji=False, width=None if sys.stdout.isatty() else WIDE)
MAX_FAILURES = 10
DECISIONS = ("keep", "reject", "pending", "failed")


def plain_table() -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    return table


def add_funnel(table: Table, funnel: Mapping[str, int]) -> None:
    """Clips by decision, which add up, and the rejected by their first reason."""
    table.add_row("clips", str(funnel["clips"]))
    for decision in DECISIONS:
        if funnel.get(decision):
            table.add_row(f"  {decision}", str(funnel[decision]))
        if decision == "reject":
            for name, count in sorted(funnel.items(), key=lambda pair: -pair[1]):
                if name.startswith("reject:"):
                    table.add_row(f"    {name.removeprefix('reject:')}", str(count))


def show_failures(groups: "Sequence[FailureGroup]") -> None:
    table = Table("failed", "kind", "items", "attempts", "attempt again by", box=None, pad_edge=False)
    for one in groups:
        attempts = "1" if one.max_attempts == 1 else f"up to {one.max_attempts}"
        command = one.retry_command if one.is_worth_retrying else ""
        table.add_row(one.step, one.kind, str(one.num_failed), attempts, escape(command))
    out.print(table)


def show_next(status: "Status") -> None:
    """The command that continues from here, to be copied."""
    out.print(f"next ({status.why}):\n{status.next_command}", markup=False)


def duration_text(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:,.4g} h"


def size_text(num_bytes: float) -> str:
    return f"{num_bytes / 2**20:.3g} MiB" if num_bytes < 2**30 else f"{num_bytes / 2**30:,.4g} GiB"
