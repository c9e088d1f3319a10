"""`reelpack train-export`: write a trained model as a folder."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from pipelines.commands.options import StepOption


def train_export(
    run: Annotated[str, typer.Argument(help="run directory of a training")],
    out: Annotated[Path, typer.Option(help="new folder for weights and config.json")],
    to: Annotated[
        Literal["reelpack", "diffusers"],
        typer.Option(help="diffusers: what the class of an imported model opens, also as transformer of its pipeline"),
    ] = "reelpack",
    last: Annotated[bool, typer.Option("--last", help="the last weights instead of the averaged ones")] = False,
    step: StepOption = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        typer.Option(help="of the written weights; by default float32, to diffusers as the weights are"),
    ] = None,
) -> None:
    """Write a trained model as a folder that `train.model.base.Denoiser.from_pretrained` reads, or diffusers."""
    from train.run.export import export_run, export_to_diffusers

    if to == "diffusers":
        typer.echo(export_to_diffusers(run, out, weights="model" if last else "ema", step=step, dtype=dtype))
    else:
        typer.echo(export_run(run, out, weights="model" if last else "ema", step=step, dtype=dtype or "float32"))
