"""`reelpack train-autoencoder`: train a video autoencoder on a dataset's clips."""

from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.commands.options import ConfigOption, SetOption
from pipelines.console.interrupted import is_first_rank, of_run, stays
from pipelines.console.tables import out as console
from pipelines.console.tables import plain_table
from pipelines.settings import resolved_config

if TYPE_CHECKING:
    from pipelines.drivers.train_autoencoder import AutoencoderSummary

FIGURES = (
    ("psnr_db", "PSNR", "{:.2f} dB"),
    ("worst_psnr_db", "PSNR of the worst clip", "{:.2f} dB"),
    ("ssim", "SSIM", "{:.4f}"),
    ("flicker", "flicker, of 255", "{:.3f}"),
    ("code_usage", "codes used", "{:.1%}"),
    ("perplexity", "perplexity of the codes", "{:,.0f}"),
)
JUDGED = ("lpips_", "features_", "rfvd_", "rfid_", "rfd_")
"""What names of figures begin with that say which network measured them."""


def train_autoencoder(
    dataset: Annotated[str, typer.Argument(help="dataset directory; bbb-film: the film of the embedded models")],
    out: Annotated[str, typer.Option(help="folder of the run; a stopped run resumes from its last checkpoint")],
    config: ConfigOption = None,
    set: SetOption = None,
) -> None:
    """Train a video autoencoder (KL, VQ or FSQ) on the dataset's clips, or layers behind a trained one's decoder."""
    resolved = resolved_config(config, set)
    from pipelines.drivers import train_autoencoder as driver
    from pipelines.monitor.prometheus import served

    metrics = served(resolved.execute) if is_first_rank() else nullcontext(())
    with stays(partial(of_run, section="train_autoencoder"), out), metrics as sinks:
        summary = driver.train_autoencoder(dataset, out, resolved, sinks)
    if is_first_rank():
        show(summary)


def show(summary: "AutoencoderSummary") -> None:
    from train.autoencoder.training.collapse import FEW, PERIOD, REMEDY, used_share

    table = plain_table()
    table.add_row("clips (held out)", f"{summary.num_clips:,} ({summary.num_held_out:,})")
    table.add_row("weights", f"{summary.num_weights:,}")
    losses = [row["loss"] for row in summary.rows if "loss" in row]
    last = losses[-max(1, len(losses) // 10) :]
    table.add_row(f"loss, {len(losses):,} steps", f"{losses[0]:.4f} → {sum(last) / len(last):.4f}")
    measured = {row["step"]: row["held_out"] for row in summary.rows if "held_out" in row}
    shown = [measured[step] for step in sorted({*measured} & {0, max(measured, default=0)})]  # before, and at the end
    for name, title, text in FIGURES if shown else ():
        if name in shown[-1]:
            table.add_row(f"held-out {title}", " → ".join(text.format(figures[name]) for figures in shown))
    for name in [name for name in shown[-1] if name.startswith(JUDGED)] if shown else ():
        table.add_row(f"held-out {name}", " → ".join(f"{figures[name]:.4g}" for figures in shown))
    table.add_row("report", f"{summary.weights.parent}/report.html")
    console.print(table)
    share = used_share([row for row in summary.rows if "loss" in row][-PERIOD:])
    if share is not None and share < FEW:
        console.print(f"the codebook has collapsed: batches use {share:.1%} of the codes that they could; {REMEDY}")
    step = "sample" if summary.setting.startswith("sample.") else "encode"
    console.print(f"use it, at `reelpack {step}`:", markup=False)
    console.print(f"--set {summary.setting}", markup=False, soft_wrap=True)
