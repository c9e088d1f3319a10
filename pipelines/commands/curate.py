"""`reelpack curate`: split raw videos into shots, score and select them, write shards."""

from typing import TYPE_CHECKING, Annotated

import typer

from curate.schema import said_of
from pipelines.commands.options import AddressOption, ConfigOption, DropFailedOption, ExecutorOption, SetOption
from pipelines.console.interrupted import of_dataset, stays
from pipelines.console.tables import MAX_FAILURES, add_funnel, out, plain_table, show_next
from pipelines.settings import resolved_config

if TYPE_CHECKING:
    from pipelines.drivers.curate import CurateSummary


def curate(
    out: Annotated[str, typer.Option(help="dataset directory; a rerun computes only what is missing")],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(help="files, folders, globs of videos and images; WebDataset tars, tables, lists; URLs"),
    ] = None,
    lists: Annotated[
        list[str] | None, typer.Option("--list", help="a list of inputs: CSV, JSONL, Parquet, or a path per line")
    ] = None,
    sidecar: Annotated[
        str | None, typer.Option(help="your own columns: CSV, JSONL or Parquet with a column `path`")
    ] = None,
    early_exit: Annotated[
        bool, typer.Option("--early-exit", help="skip further scores of clips that the policy rejects already")
    ] = False,
    drop_failed: DropFailedOption = False,
    config: ConfigOption = None,
    set: SetOption = None,
    executor: ExecutorOption = None,
    address: AddressOption = None,
) -> None:
    """Split raw videos into shots, score and select them, write shards."""
    given = [*(set or []), *(["score.early_exit=true"] if early_exit else [])]
    resolved = resolved_config(config, given, executor=executor, address=address)
    from pipelines.drivers import curate as curate_videos
    from pipelines.inspection import status as current

    given_inputs, given_lists = inputs or [], lists or []
    curate_videos.check_given(given_inputs, given_lists, out)
    with stays(of_dataset, out):
        result = curate_videos.curate(
            given_inputs, out, resolved, lists=given_lists, sidecar=sidecar, drop_failed=drop_failed
        )
    show(result, out)
    show_next(current.status(out))
    if not result.num_indexed:
        raise typer.Exit(1)


def show(summary: "CurateSummary", dataset: str) -> None:
    table = plain_table()
    table.add_row("inputs", str(summary.num_inputs))
    table.add_row("  scanned", str(summary.num_inputs - summary.num_failed_inputs))
    table.add_row("  failed", str(summary.num_failed_inputs))
    if summary.num_forgotten_inputs:
        table.add_row("left out, forgotten before", str(summary.num_forgotten_inputs))
    add_funnel(table, summary.funnel)
    table.add_row("in the index", str(summary.num_indexed))
    table.add_row("frames decoded in this run", str(summary.num_frames_decoded))
    out.print(table)
    if summary.reader_note:
        out.print(summary.reader_note, markup=False)
    for failure in summary.failures[:MAX_FAILURES]:
        why = said_of(failure.subject, failure.detail)
        out.print(f"failed: {failure.subject}: {failure.kind}: {why}", markup=False)
    if len(summary.failures) > MAX_FAILURES:
        out.print(f"… and {len(summary.failures) - MAX_FAILURES} more: reelpack status {dataset}", markup=False)
    if num_uncut := summary.funnel.get("keep", 0) - summary.num_indexed:
        out.print(f"{num_uncut} kept clips are not in the index: reelpack status {dataset} says why", markup=False)
    if not summary.num_indexed:
        out.print(summary.why_nothing, markup=False)
