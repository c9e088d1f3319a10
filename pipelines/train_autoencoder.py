"""Job entry: training of a video autoencoder on a Ray cluster, with Ray Train.

`ray job submit --working-dir . -- python -m pipelines.train_autoencoder DATASET --out RUN --workers 8 --gpu`.
"""

from functools import partial
from typing import Annotated

import typer

from pipelines.commands.entry import main_of
from pipelines.commands.options import ConfigOption, SetOption


def train(
    dataset: Annotated[str, typer.Argument(help="dataset directory, on storage that every worker sees")],
    out: Annotated[str, typer.Option(help="folder of the run, likewise")],
    workers: Annotated[str, typer.Option(help="how many, or MIN:MAX, as many of them as the cluster has")] = "1",
    gpu: Annotated[bool, typer.Option(help="one GPU per worker")] = False,
    config: ConfigOption = None,
    set: SetOption = None,
) -> None:
    """Train a causal video autoencoder on a Ray cluster."""
    from pipelines.config import load_config
    from pipelines.console.interrupted import of_run, stays
    from pipelines.drivers.train_autoencoder import train_on_ray
    from pipelines.execute.ray_train import read_workers
    from pipelines.inputs.sources import kept_by_job

    folder, run = kept_by_job(dataset), kept_by_job(out)
    with stays(partial(of_run, section="train_autoencoder"), run):
        settings = load_config(config, set or ())
        typer.echo(train_on_ray(folder, run, settings, workers=read_workers(workers), gpu=gpu))


if __name__ == "__main__":
    main_of(train, "pipelines.train_autoencoder")
