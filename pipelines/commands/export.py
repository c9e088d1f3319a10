"""`reelpack export`: write clips and captions for other tools."""

from typing import Annotated, Literal

import typer

from pipelines.commands.options import DatasetArgument


def export(
    dataset: DatasetArgument,
    out: Annotated[str, typer.Option(help="empty folder to write to")],
    latents: Annotated[str | None, typer.Option(help="also latents: a fingerprint, or auto")] = None,
    layout: Annotated[
        Literal["webdataset", "folder"], typer.Option(help="tars of samples, or clip.mp4 with clip.txt")
    ] = "webdataset",
) -> None:
    """Write clips and captions for other tools: a WebDataset (.mp4 .txt .json), or a folder (.mp4 .txt)."""
    from pipelines.drivers.export import export as write

    count, num_captioned = write(dataset, out, latents, layout)
    typer.echo(f"{count} clips in {out}, {num_captioned} of them with a caption")
