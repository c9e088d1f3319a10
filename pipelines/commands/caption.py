"""`reelpack caption`: write captions for every clip."""

from typing import TYPE_CHECKING

import typer

from pipelines.commands.options import (
    AddressOption,
    ConfigOption,
    DatasetArgument,
    LocalExecutorOption,
    SetOption,
    local_first,
)
from pipelines.console.interrupted import of_dataset, stays
from pipelines.console.tables import MAX_FAILURES, out, plain_table, show_next

if TYPE_CHECKING:
    from pipelines.drivers.caption import CaptionSummary


def caption(
    dataset: DatasetArgument,
    config: ConfigOption = None,
    set: SetOption = None,
    executor: LocalExecutorOption = None,
    address: AddressOption = None,
) -> None:
    """Write a short and a dense caption for every clip, by a vision–language model."""
    resolved = local_first(config, set, executor, address)
    from pipelines.drivers import caption as caption_clips
    from pipelines.inspection import status as current

    with stays(of_dataset, dataset):
        result = caption_clips.caption(dataset, resolved)
    show(result)
    show_next(current.status(dataset))
    if not result.num_captions:
        raise typer.Exit(1)


def show(summary: "CaptionSummary") -> None:
    table = plain_table()
    table.add_row("captioner", summary.family)
    table.add_row("clips", str(summary.num_clips))
    table.add_row("  captioned in this run", str(summary.num_new))
    table.add_row("  failed", str(summary.num_failed))
    table.add_row("captions in the index", str(summary.num_captions))
    for state, count in sorted(summary.states.items(), key=lambda pair: -pair[1]):
        table.add_row(f"  {state}", str(count))
    out.print(table)
    for reason in summary.reasons[:MAX_FAILURES]:
        out.print(f"no text: {reason}", markup=False)
    for note in summary.notes:
        out.print(f"note: {note}", markup=False)
    if not summary.num_captions:
        out.print("no clip has a caption: the model wrote nothing, every clip failed, or the index is empty")
