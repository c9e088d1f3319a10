"""`reelpack report`: write the HTML report of a dataset."""

from typing import Annotated, Any

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
    against: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="number of a version (`reelpack log`), or another dataset: what both decide differently",
        ),
    ] = None,
    clips: Annotated[int, typer.Option(min=1, help="most clips on each sheet, and to judge the captions of")] = 60,
    with_clips: Annotated[
        int, typer.Option(min=0, help="clips of the sheets that are written beside the page, to play there")
    ] = 0,
    serve: Annotated[
        bool, typer.Option("--serve", help="serve a page of all clips, which play, on loopback until Ctrl-C")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="of --serve; 0: a free one")] = 7870,
) -> None:
    """Write DATASET/report/index.html: funnel, contact sheets, captions, curves, samples. Or serve it."""
    from curate.dataset.dataset import Dataset
    from curate.report.build import build_report
    from pipelines.dataset import config_of
    from pipelines.inspection.against import against as beside_of
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
    asked: dict[str, Any] = {"max_clips": clips, "films": films, "searches": found}
    if serve:
        from pipelines.drivers.report import serve_report

        try:
            serve_report(dataset, run or (), port=port, against=against, on_ready=lambda url: typer.echo(url), **asked)
        except KeyboardInterrupt:
            typer.echo("stopped", err=True)
        return
    failures = standing_failures(Dataset(dataset))
    beside = (lambda view: beside_of(view, against)) if against else None
    page = build_report(dataset, run or (), failures=failures, with_clips=with_clips, against=beside, **asked)
    typer.echo(page)
