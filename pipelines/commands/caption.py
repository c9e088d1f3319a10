"""`reelpack caption`: write captions for every clip."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from pipelines.commands.options import AddressOption, ConfigOption, DatasetArgument, LocalExecutorOption, SetOption
from pipelines.console.interrupted import of_dataset, stays
from pipelines.console.tables import MAX_FAILURES, out, plain_table, show_next
from pipelines.settings import local_first

if TYPE_CHECKING:
    from pipelines.drivers.caption import CaptionSummary
    from pipelines.drivers.review import ReviewSummary


def caption(
    dataset: DatasetArgument,
    review: Annotated[
        str | None, typer.Option(help="review.jsonl of the report: only store what people judged in it")
    ] = None,
    config: ConfigOption = None,
    set: SetOption = None,
    executor: LocalExecutorOption = None,
    address: AddressOption = None,
) -> None:
    """Write captions for every clip: by a vision–language model, and from your own text (caption.original)."""
    if review is not None:
        from pipelines.drivers.review import review as store_review

        show_review(store_review(dataset, review))
        return
    resolved = local_first(config, set, executor, address)
    from pipelines.drivers import caption as caption_clips
    from pipelines.inspection import status as current

    with stays(of_dataset, dataset):
        result = caption_clips.caption(dataset, resolved)
    show(result)
    show_next(current.status(dataset))
    end(result)


def end(result: "CaptionSummary") -> None:
    """Exit with 1 where there is nothing to train on."""
    if not result.num_captions:
        raise typer.Exit(1)


def show(summary: "CaptionSummary") -> None:
    from curate.dataset.captions import TEXT_LEVELS

    table = plain_table()
    table.add_row("captioner", summary.family or "none")
    table.add_row("clips", str(summary.num_clips))
    table.add_row("  captioned in this run", str(summary.num_new))
    table.add_row("  failed", str(summary.num_failed))
    table.add_row("captions in the index", str(summary.num_captions))
    for level, count in summary.levels.items():
        table.add_row(f"  {level}", str(count) if level in TEXT_LEVELS else f"{count}, not trained on")
    if summary.original.column is not None:
        column, states = escape(summary.original.column), summary.original.states
        table.add_row(f"your own text, column {column}", str(sum(states.values())))
        for name, count in (*states.items(), *summary.original.codes.items()):
            table.add_row(f"  {name}", str(count))
    if summary.family is not None:
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
    for reason in summary.failures[:MAX_FAILURES]:
        out.print(f"failed: {reason}", markup=False)
    if summary.retry_command:
        out.print(f"to attempt again what failed, or what no attempt passed: {summary.retry_command}", markup=False)
    for note in summary.notes:
        out.print(f"note: {note}", markup=False)
    if not summary.num_captions:
        out.print(summary.why_nothing, markup=False)


def show_review(summary: "ReviewSummary") -> None:
    table = plain_table()
    table.add_row("judged texts", str(summary.num_lines))
    for action, count in sorted(summary.actions.items()):
        table.add_row(f"  new: {action}", str(count))
    table.add_row("  stored already", str(summary.num_unchanged))
    table.add_row("  left out", str(len(summary.left_out)))
    out.print(table)
    for number, reason in summary.left_out:
        out.print(f"line {number} is left out: {reason}", markup=False)
    if summary.left_out:
        raise typer.Exit(1)
