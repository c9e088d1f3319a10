"""Job entry: training on a Ray cluster, with Ray Train.

`ray job submit --working-dir . -- python -m pipelines.train_dit DATASET --out RUN --workers 8 --gpu`.
"""

from typing import Annotated

import typer

from pipelines.commands.entry import main_of
from pipelines.commands.options import ConfigOption, SetOption


def train(
    dataset: Annotated[
        list[str], typer.Argument(help="dataset directory, or several, on storage that every worker sees")
    ],
    out: Annotated[str, typer.Option(help="run directory, likewise")],
    workers: Annotated[str, typer.Option(help="how many, or MIN:MAX, as many of them as the cluster has")] = "1",
    gpu: Annotated[bool, typer.Option(help="one GPU per worker")] = False,
    config: ConfigOption = None,
    set: SetOption = None,
) -> None:
    """Train a DiT or a U-Net on packs on a Ray cluster."""
    from pipelines.config import load_config
    from pipelines.console.interrupted import of_run, stays
    from pipelines.drivers.train import train_on_ray
    from pipelines.execute.ray_train import read_workers
    from pipelines.inputs.sources import kept_by_job

    folders, run = [kept_by_job(url) for url in dataset], kept_by_job(out)
    with stays(of_run, run):
        typer.echo(train_on_ray(folders, run, load_config(config, set or ()), workers=read_workers(workers), gpu=gpu))


if __name__ == "__main__":
    main_of(train, "pipelines.train_dit")
