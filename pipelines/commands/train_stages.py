"""`reelpack train-stages`: a training in stages, each with its data, sizes, steps and learning rate."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.options import SetOption
from pipelines.console.interrupted import is_first_rank, of_stages, stays


def train_stages(
    file: Annotated[
        Path, typer.Argument(help="YAML: `stages:` by name, each with `encode:` and `train:`", dir_okay=False)
    ],
    out: Annotated[str, typer.Option(help="folder of the runs, OUT/NAME each; what is done is not done again")],
    encode_only: Annotated[
        bool, typer.Option("--encode-only", help="make the latents of all stages, and train nothing")
    ] = False,
    set: SetOption = None,
) -> None:
    """Train in stages: each run begins with the weights of the one before."""
    from pipelines.stages import read_stages

    stages = read_stages(file, set or [])
    from pipelines.commands.train import show
    from pipelines.drivers.train import train_here
    from pipelines.drivers.train_stages import train_stages as run_stages
    from pipelines.drivers.train_stages import with_latents

    if encode_only:
        for stage in stages:
            typer.echo(f"{stage.name}: latents {with_latents(stage).train.data.latents}")
        return
    with stays(of_stages, out):
        for _, summary in run_stages(stages, out, train_here):
            if is_first_rank():
                show(summary)
    if is_first_rank():
        typer.echo(f"{out}/{stages[-1].name}")
