"""`reelpack export`: write clips and captions for other tools."""

from typing import Annotated

import typer

from pipelines.commands.options import DatasetArgument


def complete_kind(incomplete: str) -> list[str]:
    """Names of the layouts, for the shell."""
    from curate.export.config import KINDS

    return [kind for kind in KINDS if kind.startswith(incomplete)]


def export(
    dataset: DatasetArgument,
    out: Annotated[str, typer.Option(help="empty folder to write to, or one in which the same export was stopped")],
    to: Annotated[
        str,
        typer.Option(
            help="webdataset, hf, parquet, folders, finetrainers, diffusion-pipe, musubi, energon or litdata",
            autocompletion=complete_kind,
        ),
    ] = "webdataset",
    where: Annotated[
        str | None, typer.Option(help="condition of SQL over all columns: \"nsfw < 0.2 and licence = 'CC0'\"")
    ] = None,
    split: Annotated[str | None, typer.Option(help="train or validation; none: both")] = None,
    caption_level: Annotated[
        str | None, typer.Option(help="human, dense, short or original; none: the most detailed of each clip")
    ] = None,
    shard_size: Annotated[str | None, typer.Option(help="clips (256) or size (512MiB) of files of many clips")] = None,
    latents: Annotated[str | None, typer.Option(help="also latents: a fingerprint, or auto")] = None,
    push: Annotated[str | None, typer.Option(help="then upload it: hf://organization/name")] = None,
    set: Annotated[list[str] | None, typer.Option("--set", help="key=value, of the layout; repeatable")] = None,
    layout: Annotated[str | None, typer.Option(hidden=True, help="the former name of --to")] = None,
) -> None:
    """Write clips and captions for other tools, in the layout that one of them reads."""
    from curate.export.config import layout_of

    if layout is not None:
        raise ValueError(f"--layout is now --to: give --to {'folders' if layout == 'folder' else layout}")
    chosen = layout_of(to, set or ())
    from pipelines.drivers.export import choice_of
    from pipelines.drivers.export import export as write

    choice = choice_of(where, split, caption_level, latents, shard_size)
    count, num_captioned = write(dataset, out, chosen, choice, push)
    typer.echo(f"{count} clips in {out}, {num_captioned} of them with a caption")
