"""`reelpack encode`: encode clips to latents and captions to text embeddings."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import typer

from pipelines.commands.options import AddressOption, ConfigOption, DatasetArgument, LocalExecutorOption, SetOption
from pipelines.console.interrupted import of_dataset, stays
from pipelines.console.tables import out, plain_table, show_next
from pipelines.settings import as_last, local_first

if TYPE_CHECKING:
    from pipelines.drivers.encode import EncodeSummary


def encode(
    dataset: DatasetArgument,
    config: ConfigOption = None,
    set: SetOption = None,
    executor: LocalExecutorOption = None,
    address: AddressOption = None,
) -> None:
    """Encode clips to latents and captions to text embeddings: without --config, as it ran last on the dataset."""
    resolved = local_first(config, set, executor, address, as_last(dataset, "encode", config))
    from pipelines.drivers import encode as encode_latents
    from pipelines.inspection import status as current

    with stays(of_dataset, dataset):
        result = encode_latents.encode(dataset, resolved)
    show(result)
    show_next(current.status(dataset))
    if not result.num_clips:
        out.print(result.why_nothing, markup=False)
        raise typer.Exit(1)


def show(summary: "EncodeSummary") -> None:
    table = plain_table()
    table.add_row("latents", summary.latents)
    table.add_row("text embeddings", summary.text or "none: no clip has a caption")
    windows = f", in {summary.num_windows} windows" if summary.num_windows > summary.num_clips else ""
    table.add_row("clips", f"{summary.num_clips}{windows}")
    table.add_row("tokens", str(summary.num_tokens))
    table.add_row("frame rule", summary.frame_rule)
    table.add_row("captions", _by_level(summary.captions))
    if summary.num_captions_cut:
        share = summary.num_captions_cut / summary.num_captions
        cut = f"{_by_level(summary.captions_cut)} ({share:.1%})"
        table.add_row(f"  cut at text.max_tokens={summary.max_text_tokens}", cut)
    if summary.num_uncaptioned:
        table.add_row("clips without a caption", f"{summary.num_uncaptioned}: trained under the null caption")
    table.add_row("failed in this run", str(summary.num_failed))
    if summary.reader_note:
        table.add_row("reader", summary.reader_note)
    out.print(table)


def _by_level(counts: Mapping[str, int]) -> str:
    """`30 (dense 10, short 20)`."""
    levels = ", ".join(f"{level} {count}" for level, count in sorted(counts.items()) if count)
    return f"{sum(counts.values())} ({levels})" if levels else "0"
