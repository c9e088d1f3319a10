"""`reelpack train`: train a packed-sequence DiT."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from pipelines.commands.options import ConfigOption, DatasetsArgument, SetOption, resolved_config
from pipelines.console.interrupted import is_first_rank, of_run, stays
from pipelines.console.tables import out, plain_table

if TYPE_CHECKING:
    from train.monitor.metrics import TrainSummary


def train(
    dataset: DatasetsArgument,
    out: Annotated[str, typer.Option(help="run directory; a stopped run resumes from its last checkpoint")],
    config: ConfigOption = None,
    set: SetOption = None,
) -> None:
    """Train a packed-sequence DiT on the encoded clips."""
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
    if summary.val_loss_first is not None and summary.val_loss_last is not None:
        table.add_row("validation loss, fixed noise", f"{summary.val_loss_first:.3f} → {summary.val_loss_last:.3f}")
    if summary.caption_loss_true is not None:
        pair = f"{summary.caption_loss_true:.4f} / {summary.caption_loss_shuffled:.4f}"
        table.add_row("train clips, true / shuffled caption", pair)
    table.add_row("checkpoint", summary.checkpoint)
    out.print(table)
    if summary.val_clips_by_bin:
        out.print(held_out_table(summary))


def held_out_table(summary: "TrainSummary") -> Table:
    """The averaged weights' loss on held-out clips: a row per duration and resolution, a column per timestep."""
    cells = {
        (duration, resolution): losses
        for duration, by_resolution in sorted(summary.val_loss_ema_by_bin.items())
        for resolution, losses in by_resolution.items()
    }
    timesteps = next(iter(cells.values()))
    table = Table("held-out loss, EMA", "clips", *(f"t = {t}" for t in timesteps), "mean", box=None, pad_edge=False)
    for (duration, resolution), losses in cells.items():
        values = [losses[t] for t in timesteps]
        shown = (f"{value:.3f}" for value in (*values, sum(values) / len(values)))
        table.add_row(f"{duration}, {resolution}", str(summary.val_clips_by_bin[duration][resolution]), *shown)
    return table
