"""`reelpack train-clip`: fine-tune a CLIP on captioned clips."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from pipelines.commands.options import ConfigOption, DatasetArgument, SetOption
from pipelines.console.interrupted import is_first_rank, of_run, stays
from pipelines.console.tables import out as console
from pipelines.console.tables import plain_table
from pipelines.settings import resolved_config

if TYPE_CHECKING:
    from pipelines.drivers.train_clip import ClipSummary


def train_clip(
    dataset: DatasetArgument,
    out: Annotated[str, typer.Option(help="folder of the run; a stopped run resumes from its last checkpoint")],
    config: ConfigOption = None,
    set: SetOption = None,
) -> None:
    """Fine-tune an open_clip model on the dataset's clips and captions, as a scorer that is fitted to them."""
    resolved = resolved_config(config, set)
    from pipelines.drivers import train_clip as driver

    with stays(partial(of_run, section="train_clip"), out):
        summary = driver.train_clip(dataset, out, resolved)
    if is_first_rank():
        show(summary)


def show(summary: "ClipSummary") -> None:
    from train.clip.card import AT, DIRECTIONS, chance_cells, recall_cells

    table = plain_table()
    table.add_row("pairs (held out)", f"{summary.facts.num_pairs:,} ({summary.facts.num_held_out:,})")
    table.add_row("weights that train", f"{summary.facts.num_trained:,} of {summary.facts.num_weights:,}")
    losses = [row["loss"] for row in summary.rows if "loss" in row]
    last = losses[-max(1, len(losses) // 10) :]
    table.add_row(f"loss, {len(losses)} steps", f"{losses[0]:.3f} → {sum(last) / len(last):.3f}")
    table.add_row("model", str(summary.model))
    console.print(table)
    measured = [row for row in summary.rows if "when" in row]
    if measured:
        found = measured[0]["text_to_clip"]
        title = f"{found['num_queries']:,} held-out texts, {found['num']:,} clips"
        recalls = Table(title, "", *(f"recall@{k}" for k in AT), "median rank", box=None, pad_edge=False)
        for direction in DIRECTIONS:
            recalls.add_row(*chance_cells(measured[0], direction))
            for row in measured:
                recalls.add_row(*recall_cells(row, direction))
        console.print(recalls)
    for note in summary.notes:
        console.print(f"note: {note}", markup=False)
    console.print("use it: --set, at `reelpack curate` and `reelpack caption`", markup=False)
    for setting in ("score.encoder", "caption.checks.match.encoder"):
        console.print(f"'{setting}={summary.encoder}'", markup=False, soft_wrap=True)
