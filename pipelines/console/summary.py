"""What a step says when it is done: counts that add up, on stdout."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from curate.schema import said_of
from pipelines.dataset import curate_command

if TYPE_CHECKING:
    from curate.dataset.dataset import Dataset
    from pipelines.drivers.caption import CaptionSummary
    from pipelines.drivers.curate import CurateSummary
    from pipelines.drivers.encode import EncodeSummary
    from pipelines.drivers.retry import RetrySummary
    from pipelines.drivers.select import SelectSummary
    from pipelines.inspection.failures import FailureGroup
    from pipelines.inspection.status import Status
    from train.estimate.forecast import Forecast
    from train.monitor.metrics import TrainSummary

WIDE = 10_000
"""Columns where stdout is no terminal: nothing is folded in what other programs read."""

out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDE)
MAX_FAILURES = 10
DECISIONS = ("keep", "reject", "pending", "failed")


def show_curate(summary: "CurateSummary", dataset: str) -> None:
    table = plain_table()
    table.add_row("inputs", str(summary.num_inputs))
    table.add_row("  scanned", str(summary.num_inputs - summary.num_failed_inputs))
    table.add_row("  failed", str(summary.num_failed_inputs))
    add_funnel(table, summary.funnel)
    table.add_row("in the index", str(summary.num_indexed))
    table.add_row("frames decoded in this run", str(summary.num_frames_decoded))
    out.print(table)
    for failure in summary.failures[:MAX_FAILURES]:
        why = said_of(failure.subject, failure.detail)
        out.print(f"failed: {failure.subject}: {failure.kind}: {why}", markup=False)
    if len(summary.failures) > MAX_FAILURES:
        out.print(f"… and {len(summary.failures) - MAX_FAILURES} more: reelpack status {dataset}", markup=False)
    if num_uncut := summary.funnel.get("keep", 0) - summary.num_indexed:
        out.print(f"{num_uncut} kept clips are not in the index: reelpack status {dataset} says why", markup=False)
    if not summary.num_indexed:
        out.print(nothing_kept(summary), markup=False)


def show_next(status: "Status") -> None:
    """The command that goes on from here, to be copied."""
    out.print(f"next ({status.why}):\n{status.next_command}", markup=False)


def add_funnel(table: Table, funnel: Mapping[str, int]) -> None:
    """Clips by decision, which add up, and the rejected by their first reason."""
    table.add_row("clips", str(funnel["clips"]))
    for decision in DECISIONS:
        if funnel.get(decision):
            table.add_row(f"  {decision}", str(funnel[decision]))
        if decision == "reject":
            for name, count in sorted(funnel.items(), key=lambda pair: -pair[1]):
                if name.startswith("reject:"):
                    table.add_row(f"    {name.removeprefix('reject:')}", str(count))


def show_select(summary: "SelectSummary", dataset: "Dataset") -> None:
    table = Table("", "before", "after", box=None, pad_edge=False)
    names = ["clips", *DECISIONS]
    names[3:3] = sorted(name for name in {*summary.before, *summary.after} if name.startswith("reject:"))
    for name in names:
        before, after = summary.before.get(name, 0), summary.after.get(name, 0)
        if before or after:
            indent = "" if name == "clips" else "  "
            table.add_row(name.replace("reject:", "    ") if ":" in name else indent + name, str(before), str(after))
    out.print(table)
    decoded = f"{summary.num_frames_decoded} frames decoded"
    out.print(f"in the index: {summary.num_indexed}; decided in {summary.seconds:.1f} s, {decoded}")
    if not summary.after.get("keep"):
        out.print("[red]nothing is kept[/]: this policy rejects every clip")
    if summary.num_uncut:
        out.print(f"{summary.num_uncut} kept clips are not in a shard yet: run", markup=False)
        out.print(curate_command(dataset), markup=False)


def show_failures(groups: "Sequence[FailureGroup]") -> None:
    table = Table("failed", "kind", "items", "attempts", "attempt again by", box=None, pad_edge=False)
    for one in groups:
        attempts = "1" if one.max_attempts == 1 else f"up to {one.max_attempts}"
        command = one.retry_command if one.is_worth_retrying else ""
        table.add_row(one.step, one.kind, str(one.num_failed), attempts, escape(command))
    out.print(table)


def show_failing(groups: "Sequence[FailureGroup]", later: Mapping[str, int]) -> None:
    """What `retry` is about to attempt, and what it leaves to other commands."""
    if groups:
        show_failures(groups)
    else:
        out.print("nothing to retry: no input and no clip has failed in scan, score or cut")
    for command, count in later.items():
        out.print(f"{count} clips failed in a later step, which has a command of its own: {command}", markup=False)


def show_retry(summary: "RetrySummary") -> None:
    if summary.curated is None:
        if summary.failures:
            out.print("nothing was attempted: these kinds end the same way every time; --kind KIND or --all insists")
        return
    num_failing = sum(one.num_failed for one in summary.failures)
    out.print(f"{summary.num_well} are well now, {num_failing} still fail")
    if summary.failures:
        show_failures(summary.failures)
    if not summary.curated.num_indexed:
        out.print(nothing_kept(summary.curated), markup=False)


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
    for state, count in sorted(summary.states.items(), key=lambda pair: -pair[1]):
        table.add_row(f"  {state}", str(count))
    out.print(table)
    for reason in summary.reasons[:MAX_FAILURES]:
        out.print(f"no text: {reason}", markup=False)
    for note in summary.notes:
        out.print(f"note: {note}", markup=False)
    if not summary.num_captions:
        out.print("no clip has a caption: the model wrote nothing, every clip failed, or the index is empty")


def show_encode(summary: "EncodeSummary") -> None:
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


def show_forecast(forecast: "Forecast", token_budget: int, num_ranks: int) -> None:
    table = plain_table()
    table.add_row("clips", f"{forecast.num_clips:,}")
    table.add_row("samples, tokens of an epoch", f"{forecast.num_met:,}, {forecast.num_tokens:,}")
    for part in forecast.parts if len(forecast.parts) > 1 else ():
        samples, tokens = part.num_met / forecast.num_met, part.num_tokens / forecast.num_tokens
        table.add_row(f"  {part.name}", f"{part.num_met:,} ({samples:.1%}), {part.num_tokens:,} ({tokens:.1%})")
    table.add_row("packs, steps of an epoch", f"{forecast.num_packs:,}, {forecast.num_steps:,}")
    table.add_row("epochs of the run", f"{forecast.num_epochs:,.1f}")
    table.add_row("times that the run meets a clip", f"{forecast.meetings:,.1f}")
    table.add_row("real tokens per pack slot", f"{forecast.token_efficiency:.1%}")
    table.add_row(f"idle of {num_ranks} ranks, predicted", f"{forecast.idle:.1%}")
    table.add_row(f"above the budget of {token_budget:,}: cut", str(forecast.num_cut))
    table.add_row(f"above the budget of {token_budget:,}: own pack", str(forecast.num_oversize))
    table.add_row("parameters", f"{forecast.num_parameters:,}")
    table.add_row("weights, gradients, optimizer, average, per rank", f"{forecast.state_bytes / 2**30:.2f} GiB")
    table.add_row("activations of the largest pack, about", f"{forecast.activation_bytes / 2**30:.2f} GiB")
    out.print(table)


def show_train(summary: "TrainSummary") -> None:
    table = plain_table()
    table.add_row("steps", str(summary.steps))
    table.add_row("parameters", f"{summary.num_parameters:,}")
    table.add_row("clips (train / val)", f"{summary.train_clips} / {summary.val_clips}")
    table.add_row("samples, tokens", f"{summary.samples:,}, {summary.tokens:,}")
    table.add_row("real tokens per pack slot", f"{summary.token_efficiency:.1%}")
    table.add_row("train loss", f"{summary.train_loss_first:.3f} → {summary.train_loss_last:.3f}")
    table.add_row("real tokens per second", f"{summary.tokens_per_s:,.0f}")
    for name, share in (("MFU", summary.mfu), ("idle ranks", summary.rank_idle), ("loader wait", summary.loader_wait)):
        if share is not None:
            table.add_row(f"  {name}", f"{share:.1%}")
    table.add_row("memory, at most", f"{summary.memory_gib:.2f} GiB")
    if summary.skipped_steps:
        table.add_row("skipped steps", str(summary.skipped_steps))
    if summary.val_loss_first is not None and summary.val_loss_last is not None:
        table.add_row("validation loss, fixed noise", f"{summary.val_loss_first:.3f} → {summary.val_loss_last:.3f}")
    if summary.caption_loss_true is not None:
        pair = f"{summary.caption_loss_true:.4f} / {summary.caption_loss_shuffled:.4f}"
        table.add_row("train clips, true / shuffled caption", pair)
    table.add_row("checkpoint", summary.checkpoint)
    out.print(table)
    if summary.val_clips_by_bin:
        out.print(held_out_table(summary))


def held_out_table(summary: "TrainSummary") -> Table:
    """The averaged weights' loss on held-out clips: a row per duration and resolution, a column per timestep."""
    cells = {
        (duration, resolution): losses
        for duration, by_resolution in sorted(summary.val_loss_ema_by_bin.items())
        for resolution, losses in by_resolution.items()
    }
    timesteps = next(iter(cells.values()))
    table = Table("held-out loss, EMA", "clips", *(f"t = {t}" for t in timesteps), "mean", box=None, pad_edge=False)
    for (duration, resolution), losses in cells.items():
        values = [losses[t] for t in timesteps]
        shown = (f"{value:.3f}" for value in (*values, sum(values) / len(values)))
        table.add_row(f"{duration}, {resolution}", str(summary.val_clips_by_bin[duration][resolution]), *shown)
    return table


def plain_table() -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    return table
