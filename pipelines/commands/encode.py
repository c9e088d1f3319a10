"""`reelpack encode`: encode clips to latents and captions to text embeddings."""

from typing import TYPE_CHECKING

import typer

from pipelines.commands.options import (
    AddressOption,
    ConfigOption,
    DatasetArgument,
    LocalExecutorOption,
    SetOption,
    local_first,
)
from pipelines.console.interrupted import of_dataset, stays
from pipelines.console.tables import out, plain_table, show_next

if TYPE_CHECKING:
    from pipelines.drivers.encode import EncodeSummary


def encode(
    dataset: DatasetArgument,
    config: ConfigOption = None,
    set: SetOption = None,
    executor: LocalExecutorOption = None,
    address: AddressOption = None,
) -> None:
    """Encode clips to latents and captions to text embeddings."""
    resolved = local_first(config, set, executor, address)
    from pipelines.drivers import encode as encode_latents
    from pipelines.inspection import status as current

    with stays(of_dataset, dataset):
        result = encode_latents.encode(dataset, resolved)
    show(result)
    show_next(current.status(dataset))
    if not result.num_clips:
        raise typer.Exit(1)


def show(summary: "EncodeSummary") -> None:
    table = plain_table()
    table.add_row("latents", summary.latents)
    table.add_row("text embeddings", summary.text)
    table.add_row("clips", str(summary.num_clips))
    table.add_row("tokens", str(summary.num_tokens))
    table.add_row("captions", str(summary.num_captions))
    if summary.num_captions_cut:
        share = summary.num_captions_cut / summary.num_captions
        table.add_row(
            f"  cut at text.max_tokens={summary.max_text_tokens}", f"{summary.num_captions_cut} ({share:.1%})"
        )
    table.add_row("failed in this run", str(summary.num_failed))
    out.print(table)
