"""`reelpack train-captioner`: train a captioner on captioned clips."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from pipelines.commands.options import ConfigOption, SetOption
from pipelines.console.interrupted import of_captioner, stays
from pipelines.console.tables import out as console
from pipelines.console.tables import plain_table
from pipelines.settings import resolved_config

if TYPE_CHECKING:
    from pipelines.drivers.train_captioner import CaptionerSummary


def train_captioner(
    out: Annotated[Path, typer.Option(help="folder of the run; a stopped run resumes from its last checkpoint")],
    dataset: Annotated[
        str | None, typer.Argument(help="captioned dataset; none with train_captioner.data.kind=film")
    ] = None,
    config: ConfigOption = None,
    set: SetOption = None,
) -> None:
    """Train a LLaVA-shaped captioner on a captioned dataset: stages as `--config llava`, dalle3 or your own say."""
    resolved = resolved_config(config, set)
    from pipelines.drivers import train_captioner as driver

    with stays(of_captioner, str(out)):
        show(driver.train_captioner(dataset, out, resolved))


def show(summary: "CaptionerSummary") -> None:
    from curate.report.captioner import COLUMNS, grounding_cells

    table = plain_table()
    if summary.num_clips is not None:
        table.add_row("clips (held out)", f"{summary.num_clips} ({summary.num_held_out})")
    for reason, count in summary.rejected.items():
        table.add_row(f"instructions not used: {reason}", str(count))
    losses: dict[str, list[float]] = {}
    for row in summary.rows:
        if "step" in row:
            losses.setdefault(row["stage"], []).append(row["loss"])
    for stage, of_stage in losses.items():
        last = of_stage[-max(1, len(of_stage) // 10) :]
        change = f"{of_stage[0]:.3f} → {sum(last) / len(last):.3f} nats per token"
        table.add_row(f"loss of {stage}, {len(of_stage)} steps", change)
    table.add_row("model", str(summary.model))
    console.print(table)
    measured = [row for row in summary.rows if "when" in row]
    if measured:
        grounding = Table(*COLUMNS, box=None, pad_edge=False)
        for row in measured:
            grounding.add_row(*grounding_cells(row))
        console.print(grounding)
    for note in summary.notes:
        console.print(f"note: {note}", markup=False)
    if summary.caption_command:
        console.print(f"next:\n{summary.caption_command}", markup=False)
