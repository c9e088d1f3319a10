"""`reelpack report`: write the HTML report of a dataset."""

from typing import Annotated

import typer

from pipelines.commands.options import DatasetArgument


def report(
    dataset: DatasetArgument,
    run: Annotated[list[str] | None, typer.Option(help="training runs to show; repeatable")] = None,
    clips: Annotated[int, typer.Option(min=1, help="most clips on each sheet, and to judge the captions of")] = 60,
) -> None:
    """Write DATASET/report/index.html: funnel, contact sheets, captions, curves, samples."""
    from curate.dataset.dataset import Dataset
    from curate.report.build import build_report
    from pipelines.inspection.failures import standing_failures

    failures = standing_failures(Dataset(dataset))
    typer.echo(build_report(dataset, run or (), failures=failures, max_clips=clips))
