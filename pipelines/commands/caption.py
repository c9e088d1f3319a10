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
    """Write captions for every clip: by a vision–language model, and from your own text (caption.original)."""
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
    table.add_row("captioner", summary.family or "none")
    table.add_row("clips", str(summary.num_clips))
    table.add_row("  captioned in this run", str(summary.num_new))
    table.add_row("  failed", str(summary.num_failed))
    table.add_row("captions in the index", str(summary.num_captions))
    for level, count in summary.levels.items():
        table.add_row(f"  {level}", str(count))
    table.add_row("captions by how they ended", str(sum(summary.states.values())))
    for state, count in sorted(summary.states.items(), key=lambda pair: -pair[1]):
        table.add_row(f"  {state}", str(count))
    for code, count in sorted(summary.codes.items(), key=lambda pair: -pair[1]):
        table.add_row(f"  with the finding {code}", str(count))
    if summary.num_retried:
        table.add_row("took several attempts", str(summary.num_retried))
    if summary.num_new:
        table.add_row("model waited for frames", f"{summary.starved:.0%} of the time")
    out.print(table)
    for reason in summary.reasons[:MAX_FAILURES]:
        out.print(f"no text: {reason}", markup=False)
    if summary.retry_command:
        out.print(f"to attempt again what no attempt passed: {summary.retry_command}", markup=False)
    for note in summary.notes:
        out.print(f"note: {note}", markup=False)
    if not summary.num_captions:
        out.print("no clip has a caption: the model wrote nothing, every clip failed, or the index is empty")
