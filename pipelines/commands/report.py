"""`reelpack report`: write the HTML report of a dataset."""

from typing import Annotated

import typer

from pipelines.commands.options import DatasetArgument


def report(
    dataset: DatasetArgument,
    run: Annotated[list[str] | None, typer.Option(help="training runs to show; repeatable")] = None,
    film: Annotated[
        list[str] | None, typer.Option(help="input whose cuts are shown, by its URI or the end of it; repeatable")
    ] = None,
    search: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="show the kept clips nearest to a text; repeatable")
    ] = None,
    like: Annotated[
        list[str] | None, typer.Option(metavar="CLIP", help="show the kept clips nearest to a clip; repeatable")
    ] = None,
    clips: Annotated[int, typer.Option(min=1, help="most clips on each sheet, and to judge the captions of")] = 60,
) -> None:
    """Write DATASET/report/index.html: funnel, contact sheets, captions, curves, samples."""
    from curate.dataset.dataset import Dataset
    from curate.report.build import build_report
    from pipelines.dataset import config_of
    from pipelines.inspection.explain import files_named
    from pipelines.inspection.failures import standing_failures
    from pipelines.inspection.search import Query
    from pipelines.inspection.search import search as find

    films = []
    for name in film or ():
        found = [story.video["uri"] for story in files_named(dataset, name) if story.video["outcome"] == "ok"]
        if not found:
            raise ValueError(f"--film {name}: no input of this name was scanned; `reelpack status {dataset}`")
        films += [(uri, config_of(Dataset(dataset)).scan) for uri in found]
    queries = [*(Query(text=text) for text in search or ()), *(Query(clip=clip) for clip in like or ())]
    found = [(query.title, {hit.clip["clip_id"]: hit.cosine for hit in find(dataset, query)}) for query in queries]
    failures = standing_failures(Dataset(dataset))
    typer.echo(build_report(dataset, run or (), failures=failures, max_clips=clips, films=films, searches=found))
