"""What a step says when it is done: counts that add up, on stdout."""

from collections import Counter
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from pipelines.caption_clips import CaptionSummary
    from pipelines.curate_videos import CurateSummary
    from pipelines.encode_latents import EncodeSummary
    from train.metrics import TrainSummary

out = Console(highlight=False, soft_wrap=True)
MAX_FAILURES = 10


def show_curate(summary: "CurateSummary", dataset: str) -> None:
    funnel = summary.funnel
    table = plain_table()
    table.add_row("inputs", str(summary.num_inputs))
    table.add_row("  failed", str(summary.num_failed_inputs))
    table.add_row("clips", str(funnel["clips"]))
    for decision in ("keep", "reject", "pending", "failed"):
        if funnel.get(decision):
            table.add_row(f"  {decision}", str(funnel[decision]))
    for name, count in sorted(funnel.items(), key=lambda pair: -pair[1]):
        if name.startswith("reject:"):
            table.add_row(f"    {name.removeprefix('reject:')}", str(count))
    table.add_row("in the index", str(summary.num_indexed))
    table.add_row("frames decoded in this run", str(summary.num_frames_decoded))
    out.print(table)
    for failure in summary.failures[:MAX_FAILURES]:
        out.print(f"failed: {failure.subject}: {failure.kind}: {failure.detail}", markup=False)
    if len(summary.failures) > MAX_FAILURES:
        out.print(f"… and {len(summary.failures) - MAX_FAILURES} more in {dataset}/tables/failures")
    if not summary.num_indexed:
        out.print(nothing_kept(summary), markup=False)


def nothing_kept(summary: "CurateSummary") -> str:
    """Why a run kept nothing: the reasons that stood in the way, the commonest first."""
    kinds = Counter(str(failure.kind) for failure in summary.failures)
    rules = {name.removeprefix("reject:"): n for name, n in summary.funnel.items() if name.startswith("reject:")}
    reasons = [f"{count} failed ({kind})" for kind, count in kinds.most_common()]
    reasons += [f"{count} rejected by select.{rule}" for rule, count in sorted(rules.items(), key=lambda p: -p[1])]
    return f"nothing was kept: {'; '.join(reasons) or f'all {summary.num_failed_inputs} inputs failed before'}"


def show_caption(summary: "CaptionSummary") -> None:
    table = plain_table()
    table.add_row("captioner", summary.family)
    table.add_row("clips", str(summary.num_clips))
    table.add_row("  captioned in this run", str(summary.num_new))
    table.add_row("  failed", str(summary.num_failed))
    table.add_row("captions in the index", str(summary.num_captions))
    out.print(table)
    if not summary.num_captions:
        out.print("no clip has a caption: the model wrote nothing, every clip failed, or the index is empty")


def show_encode(summary: "EncodeSummary") -> None:
    table = plain_table()
    table.add_row("latents", summary.latents)
    table.add_row("text embeddings", summary.text)
    table.add_row("clips", str(summary.num_clips))
    table.add_row("tokens", str(summary.num_tokens))
    table.add_row("failed in this run", str(summary.num_failed))
    out.print(table)


def show_train(summary: "TrainSummary") -> None:
    table = plain_table()
    table.add_row("steps", str(summary.steps))
    table.add_row("parameters", f"{summary.num_parameters:,}")
    table.add_row("clips (train / val)", f"{summary.train_clips} / {summary.val_clips}")
    table.add_row("samples, tokens", f"{summary.samples:,}, {summary.tokens:,}")
    table.add_row("real tokens per pack slot", f"{summary.token_efficiency:.1%}")
    table.add_row("train loss", f"{summary.train_loss_first:.3f} → {summary.train_loss_last:.3f}")
    if summary.val_loss_first is not None and summary.val_loss_last is not None:
        table.add_row("validation loss, fixed noise", f"{summary.val_loss_first:.3f} → {summary.val_loss_last:.3f}")
    if summary.caption_loss_true is not None:
        pair = f"{summary.caption_loss_true:.4f} / {summary.caption_loss_shuffled:.4f}"
        table.add_row("train clips, true / shuffled caption", pair)
    table.add_row("checkpoint", summary.checkpoint)
    out.print(table)


def plain_table() -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    return table
