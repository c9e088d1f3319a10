"""`reelpack curate`: split raw videos into shots, score and select them, write shards."""

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from curate.schema import said_of
from pipelines.commands.options import (
    AddressOption,
    ConfigOption,
    DropFailedOption,
    ExecutorOption,
    SetOption,
    resolved_config,
)
from pipelines.console.interrupted import of_dataset, stays
from pipelines.console.tables import MAX_FAILURES, add_funnel, out, plain_table, show_next

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
    from curate.dataset.dataset import Dataset
    from pipelines.drivers import curate as curate_videos
    from pipelines.inputs.sources import kept_by_job, refuse_mistyped
    from pipelines.inspection import status as current

    given_inputs, given_lists = inputs or [], lists or []
    if not given_inputs and not given_lists:
        raise ValueError("got no inputs; expected files, folders, globs, or a list of them (--list FILE)")
    kept_by_job(out)
    refuse_mistyped([*given_inputs, *given_lists], curate_videos.known_inputs(Dataset(out)))
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
        out.print(nothing_kept(summary), markup=False)


def nothing_kept(summary: "CurateSummary") -> str:
    """Why a run kept nothing: the reasons that stood in the way, the commonest first."""
    kinds = Counter(str(failure.kind) for failure in summary.failures)
    rules = {name.removeprefix("reject:"): n for name, n in summary.funnel.items() if name.startswith("reject:")}
    reasons = [f"{count} failed ({kind})" for kind, count in kinds.most_common()]
    reasons += [f"{count} rejected by select.{rule}" for rule, count in sorted(rules.items(), key=lambda p: -p[1])]
    return f"nothing was kept: {'; '.join(reasons) or f'all {summary.num_failed_inputs} inputs failed before'}"
