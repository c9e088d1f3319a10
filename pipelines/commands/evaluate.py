"""`reelpack evaluate`: how good are the samples of a run?"""

import json as json_text
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from pipelines.commands.options import ConfigOption, SetOption, StepOption
from pipelines.console.tables import out as console
from pipelines.settings import resolved_config

if TYPE_CHECKING:
    from train.evaluate.quality.figures import Figures

NUM_WORST = 5


def evaluate(
    run: Annotated[str, typer.Argument(help="run directory of a training")],
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="file of prompts (.txt, .jsonl, .csv); none: captions of held-out clips"),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="videos to generate, of the prompts in turn")] = 64,
    against: Annotated[
        list[str] | None,
        typer.Option(metavar="DATASET", help="dataset to compare with; repeatable; none: what the run was trained on"),
    ] = None,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT, px; none: that of most clips")] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="number of frames; none: that of most clips")] = None,
    step: StepOption = None,
    vbench: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="copy the videos there, in VBench's layout of custom input")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="the figures as one JSON object, for scripts")] = False,
    config: ConfigOption = None,
    set: SetOption = None,
) -> None:
    """Generate samples of a run and measure them beside real clips."""
    settings = resolved_config(config, set)
    sampling = settings.sample if step is None else settings.sample.model_copy(update={"step": step})
    from curate.report.run import build_run_report
    from pipelines.console.interrupted import is_first_rank
    from pipelines.drivers import evaluate as driver
    from train.evaluate.quality.vbench import check_free

    if vbench is not None:
        check_free(Path(vbench))
    found = driver.evaluate(
        run,
        settings.evaluate,
        sampling,
        num_samples=samples,
        prompts=prompts,
        against=against or (),
        size=size,
        num_frames=frames,
    )
    if not is_first_rank():
        return
    written = [] if vbench is None else [driver.to_vbench(found, vbench)]
    written += [f"{found.folder}/evaluate.json", build_run_report(run)]
    if json:
        typer.echo(json_text.dumps(asdict(found.figures)))
        return
    show(found.figures)
    for path in written:
        typer.echo(path)


def show(figures: "Figures") -> None:
    from curate.report.evaluation import figure_rows

    console.print(f"{figures.num_videos} samples, {figures.num_held_out} held-out clips")
    table = Table("", "samples", "interval", "beside it", box=None, pad_edge=False)
    for row in figure_rows(asdict(figures)):
        table.add_row(row.name, row.value, row.interval, row.beside)
    console.print(table)
    for name, distance in figures.distances.items():
        if min(figures.num_videos, figures.num_held_out) <= distance.num_features:
            console.print(
                f"{name}: fewer videos than its {distance.num_features:,} features; it is too high, and compares at "
                "equal numbers alone: read the kernel distance"
            )
    console.print("worst:")
    for video in figures.videos[:NUM_WORST]:
        matches = "  ".join(f"{value:.3f}" for value in video.consistency.values())
        near = "" if video.nearest is None else f"  nearest {video.nearest[:12]} at {video.nearest_distance:.3f}"
        console.print(f"  {video.number:05d}  {matches}{near}  {video.prompt}", markup=False)
