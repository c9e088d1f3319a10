"""`reelpack train-export`: write a trained model as a folder."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from pipelines.commands.options import StepOption


def train_export(
    run: Annotated[str, typer.Argument(help="run directory of a training")],
    out: Annotated[Path, typer.Option(help="new folder for model.safetensors and config.json")],
    last: Annotated[bool, typer.Option("--last", help="the last weights instead of the averaged ones")] = False,
    step: StepOption = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"], typer.Option(help="of the written weights")
    ] = "float32",
) -> None:
    """Write a trained model as a folder that `train.model.base.Denoiser.from_pretrained` reads."""
    from train.run.export import export_run

    typer.echo(export_run(run, out, weights="model" if last else "ema", step=step, dtype=dtype))
