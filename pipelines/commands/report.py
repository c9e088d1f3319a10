"""`reelpack report`: write the HTML report of a dataset."""

from typing import Annotated

import typer

from pipelines.commands.options import DatasetArgument


def report(
    dataset: DatasetArgument,
    run: Annotated[list[str] | None, typer.Option(help="training runs to show; repeatable")] = None,
) -> None:
    """Write DATASET/report/index.html: funnel, contact sheets, captions, curves, samples."""
    from curate.dataset.dataset import Dataset
    from curate.report.build import build_report
    from pipelines.inspection.failures import standing_failures

    typer.echo(build_report(dataset, run or (), failures=standing_failures(Dataset(dataset))))
