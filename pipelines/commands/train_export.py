"""`reelpack train-export`: write a trained model as a folder, or its low-rank updates as a file."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from pipelines.commands.options import StepOption


def train_export(
    run: Annotated[str, typer.Argument(help="run directory of a training")],
    out: Annotated[Path | None, typer.Option(help="new folder for weights and config.json")] = None,
    lora: Annotated[
        Path | None, typer.Option(help="file (.safetensors) for the updates of a run with LoRA, without its base")
    ] = None,
    merge: Annotated[bool, typer.Option("--merge", help="add the updates of a run with LoRA to the weights")] = False,
    to: Annotated[
        Literal["reelpack", "diffusers", "comfyui"],
        typer.Option(
            help="diffusers: what the class of an imported model opens, also as transformer of its pipeline; comfyui: "
            "of --lora alone"
        ),
    ] = "reelpack",
    last: Annotated[bool, typer.Option("--last", help="the last weights instead of the averaged ones")] = False,
    step: StepOption = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        typer.Option(help="of the written weights; by default float32, to diffusers as the weights are"),
    ] = None,
) -> None:
    """Write a trained model as a folder that `train.model.base.Denoiser.from_pretrained` reads, or diffusers."""
    if out is None and lora is None:
        raise ValueError("got neither --out nor --lora; expected a folder for the model, or a file for its updates")
    if merge and out is None:
        raise ValueError("--merge adds the updates to the weights; give --out FOLDER for the whole model")
    if out is not None and to == "comfyui":
        raise ValueError("--to comfyui writes updates: give --lora FILE without --out; --to diffusers writes models")
    from train.run.export import export_run, export_to_diffusers, export_updates

    weights: Literal["ema", "model"] = "model" if last else "ema"
    if out is not None and to == "diffusers":
        typer.echo(export_to_diffusers(run, out, weights=weights, step=step, dtype=dtype, merges=merge))
    elif out is not None:
        typer.echo(export_run(run, out, weights=weights, step=step, dtype=dtype or "float32", merges=merge))
    if lora is not None:
        typer.echo(export_updates(run, lora, weights=weights, step=step, to=to))
