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
            help="diffusers: what the pipeline of an imported model opens, or its class where no pipeline is known; "
            "comfyui: of --lora alone"
        ),
    ] = "reelpack",
    pipeline: Annotated[
        str | None,
        typer.Option(
            help="to diffusers: folder or hub id of a pipeline whose other parts go along; by default that of the "
            "import; none: the model's folder alone"
        ),
    ] = None,
    link: Annotated[
        bool, typer.Option("--link", help="to diffusers: symbolic links to the pipeline's other parts, no copies")
    ] = False,
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
    if (pipeline is not None or link) and (out is None or to != "diffusers"):
        raise ValueError("--pipeline and --link are for --out FOLDER --to diffusers")
    if out is not None and to == "comfyui":
        raise ValueError("--to comfyui writes updates: give --lora FILE without --out; --to diffusers writes models")
    from curate.encoders.pipeline_folder import PIPELINE
    from train.run.export import export_run, export_to_diffusers, export_updates

    weights: Literal["ema", "model"] = "model" if last else "ema"
    if out is not None and to == "diffusers":
        made = export_to_diffusers(
            run, out, weights=weights, step=step, dtype=dtype, merges=merge, pipeline=pipeline, links=link
        )
        typer.echo(made)
        if pipeline is None and not (made / PIPELINE).is_file():
            typer.echo(
                "The folder holds the transformer alone: no pipeline is known that the model was imported from. With "
                "--pipeline FOLDER_OR_HUB_ID its text encoder, tokenizer, autoencoder and scheduler go along, and "
                "DiffusionPipeline.from_pretrained opens the folder.",
                err=True,
            )
    elif out is not None:
        typer.echo(export_run(run, out, weights=weights, step=step, dtype=dtype or "float32", merges=merge))
    if lora is not None:
        typer.echo(export_updates(run, lora, weights=weights, step=step, to=to))
