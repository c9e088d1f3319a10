"""`reelpack retry`: attempt failed files and clips again."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.commands.options import (
    AddressOption,
    DatasetArgument,
    DropFailedOption,
    ExecuteSetOption,
    ExecutorOption,
)
from pipelines.console.interrupted import of_dataset, stays
from pipelines.console.tables import out, show_failures
from pipelines.settings import execute_config

if TYPE_CHECKING:
    from pipelines.drivers.retry import RetrySummary
    from pipelines.execute.base import ExecuteConfig
    from pipelines.inspection.failures import FailureGroup


def retry(
    dataset: DatasetArgument,
    kind: Annotated[
        list[str] | None,
        typer.Option(help="this kind, such as model, and those that any rerun attempts; repeatable"),
    ] = None,
    all: Annotated[bool, typer.Option("--all", help="every kind, also of files that are broken")] = False,
    step: Annotated[
        str | None, typer.Option(help="caption or encode: that step alone, with its settings of last time")
    ] = None,
    drop_failed: DropFailedOption = False,
    set: ExecuteSetOption = None,
    executor: ExecutorOption = None,
    address: AddressOption = None,
) -> None:
    """Attempt failed files and clips again, with the inputs and settings of the last run."""
    from curate.schema import FailureKind
    from pipelines.drivers import retry as retrying
    from pipelines.inspection.failures import WORTH_RETRYING

    if step is not None:
        with stays(of_dataset, dataset):
            retry_step(dataset, step, execute_config(set, executor=executor, address=address))
        return
    known = [str(one) for one in FailureKind]
    if unknown := [name for name in kind or () if name not in known]:
        raise ValueError(f"--kind {', '.join(unknown)}: no such kind of failure; there are {', '.join(known)}")
    kinds = frozenset(FailureKind) if all else frozenset(map(FailureKind, kind)) if kind else WORTH_RETRYING
    show_failing(*retrying.failing(dataset))
    execute = execute_config(set, executor=executor, address=address)
    with stays(of_dataset, dataset):
        retried = retrying.retry(dataset, kinds, execute, drop_failed=drop_failed)
    show(retried)


def retry_step(dataset: str, step: str, execute: "ExecuteConfig") -> None:
    """Run a later step again; `caption` attempts also what no attempt passed."""
    from curate.dataset.dataset import Dataset
    from pipelines.commands import caption as caption_command
    from pipelines.commands import encode as encode_command
    from pipelines.dataset import step_config

    if step == "caption":
        from pipelines.drivers.caption import caption

        result = caption(dataset, step_config(Dataset(dataset), step, execute), retry=True)
        caption_command.show(result)
        caption_command.end(result)
    elif step == "encode":
        from pipelines.drivers.encode import encode

        encode_command.show(encode(dataset, step_config(Dataset(dataset), step, execute)))
    else:
        raise ValueError(f"--step {step}: expected caption or encode; without --step, curation is retried")


def show_failing(groups: "Sequence[FailureGroup]", later: Mapping[str, int]) -> None:
    """What `retry` is about to attempt, and what it leaves to other commands."""
    if groups:
        show_failures(groups)
    else:
        out.print("nothing to retry: no input and no clip has failed in scan, score or cut")
    for command, count in later.items():
        out.print(f"{count} clips failed in a later step, which has a command of its own: {command}", markup=False)


def show(summary: "RetrySummary") -> None:
    if summary.curated is None:
        if summary.failures:
            out.print(
                "nothing was attempted: these kinds fail again each time; --kind KIND or --all attempts them anyway"
            )
        return
    num_failing = sum(one.num_failed for one in summary.failures)
    out.print(f"{summary.num_succeeded} succeeded now, {num_failing} still fail")
    if summary.failures:
        show_failures(summary.failures)
    if not summary.curated.num_indexed:
        out.print(summary.curated.why_nothing, markup=False)
