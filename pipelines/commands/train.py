"""`reelpack train`: train a denoiser on packed sequences."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from pipelines.commands.options import ConfigOption, DatasetsArgument, SetOption
from pipelines.console.interrupted import is_first_rank, of_run, stays
from pipelines.console.tables import out, plain_table
from pipelines.settings import resolved_config

if TYPE_CHECKING:
    from train.monitor.metrics import TrainSummary


def train(
    dataset: DatasetsArgument,
    out: Annotated[str, typer.Option(help="run directory; a stopped run resumes from its last checkpoint")],
    config: ConfigOption = None,
    set: SetOption = None,
) -> None:
    """Train a DiT or a U-Net on packs of the encoded clips."""
    resolved = resolved_config(config, set)
    from pipelines.drivers import train as train_dit

    with stays(of_run, out):
        trained = train_dit.train_here(dataset, out, resolved)
    if is_first_rank():
        show(trained)


def show(summary: "TrainSummary") -> None:
    table = plain_table()
    table.add_row("steps", str(summary.steps))
    table.add_row("parameters", f"{summary.num_parameters:,}")
    table.add_row("clips (train / val)", f"{summary.train_clips} / {summary.val_clips}")
    table.add_row("samples, tokens", f"{summary.samples:,}, {summary.tokens:,}")
    table.add_row("real tokens per pack slot", f"{summary.token_efficiency:.1%}")
    table.add_row("train loss", f"{summary.train_loss_first:.3f} → {summary.train_loss_last:.3f}")
    table.add_row("real tokens per second", f"{summary.tokens_per_s:,.0f}")
    for name, share in (("MFU", summary.mfu), ("idle ranks", summary.rank_idle), ("loader wait", summary.loader_wait)):
        if share is not None:
            table.add_row(f"  {name}", f"{share:.1%}")
    table.add_row("memory, at most", f"{summary.memory_gib:.2f} GiB")
    if summary.skipped_steps:
        table.add_row("skipped steps", str(summary.skipped_steps))
    for name, last in summary.evaluated_last.items():
        if isinstance(last, int | float):
            table.add_row(name.replace("_", " "), _change(summary.evaluated_first[name], last))
    table.add_row("checkpoint", summary.checkpoint)
    out.print(table)
    for name, last in summary.evaluated_last.items():
        if cells := dict(_cells(last)):
            out.print(_cells_table(name.replace("_", " "), cells))


def _change(first: float | None, last: float) -> str:
    """One number where nothing changed, as of what was measured once."""
    texts = _number(first), _number(last)
    return " → ".join(dict.fromkeys(texts))


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


Cells = dict[tuple[str, str], dict[str, float]]


def _cells(value: Any) -> Iterator[tuple[tuple[str, str], dict[str, float]]]:
    """Of a metric that is nested three levels deep: its outer two names, and the numbers by the third."""
    for outer, rows in value.items() if isinstance(value, dict) else ():
        for inner, columns in rows.items() if isinstance(rows, dict) else ():
            if isinstance(columns, dict):
                yield (outer, inner), columns


def _cells_table(title: str, cells: Cells) -> Table:
    """A row per pair of names, such as duration and resolution, and a column per third name, such as the timestep."""
    columns = list(dict.fromkeys(column for numbers in cells.values() for column in numbers))
    table = Table(title, *columns, "mean", box=None, pad_edge=False)
    for names, numbers in sorted(cells.items()):
        mean = sum(numbers.values()) / len(numbers)
        shown = [f"{numbers[column]:.3f}" if column in numbers else "" for column in columns]
        table.add_row(", ".join(names), *shown, f"{mean:.3f}")
    return table
