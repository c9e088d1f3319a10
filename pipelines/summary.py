"""What a step says when it is done: counts that add up, on stdout."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from pipelines.caption_clips import CaptionSummary
    from pipelines.curate_videos import CurateSummary
    from pipelines.doctor import Finding
    from pipelines.encode_latents import EncodeSummary
    from pipelines.explain import Explanation
    from pipelines.plan_curation import CurationPlan, Estimate
    from pipelines.retry import RetrySummary
    from pipelines.select_clips import SelectSummary
    from pipelines.status import Status
    from pipelines.verify import Verified
    from train.metrics import TrainSummary

out = Console(highlight=False, soft_wrap=True)
MAX_FAILURES = 10
MAX_PROBLEMS = 40


def show_curate(summary: "CurateSummary", dataset: str) -> None:
    table = plain_table()
    table.add_row("inputs", str(summary.num_inputs))
    table.add_row("  failed", str(summary.num_failed_inputs))
    _add_funnel(table, summary.funnel)
    table.add_row("in the index", str(summary.num_indexed))
    table.add_row("frames decoded in this run", str(summary.num_frames_decoded))
    out.print(table)
    for failure in summary.failures[:MAX_FAILURES]:
        out.print(f"failed: {failure.subject}: {failure.kind}: {failure.detail}", markup=False)
    if len(summary.failures) > MAX_FAILURES:
        out.print(f"… and {len(summary.failures) - MAX_FAILURES} more: reelpack status {dataset}", markup=False)
    if not summary.num_indexed:
        out.print(nothing_kept(summary), markup=False)


def _add_funnel(table: Table, funnel: Mapping[str, int]) -> None:
    """Clips by decision, which add up, and the rejected by their first reason."""
    table.add_row("clips", str(funnel["clips"]))
    for decision in ("keep", "reject", "pending", "failed"):
        if funnel.get(decision):
            table.add_row(f"  {decision}", str(funnel[decision]))
        if decision == "reject":
            for name, count in sorted(funnel.items(), key=lambda pair: -pair[1]):
                if name.startswith("reject:"):
                    table.add_row(f"    {name.removeprefix('reject:')}", str(count))


def show_select(summary: "SelectSummary", dataset: str) -> None:
    table = Table("", "before", "after", box=None, pad_edge=False)
    names = ["clips", "keep", "reject", "pending", "failed"]
    names += sorted({*summary.before, *summary.after} - set(names))
    for name in names:
        before, after = summary.before.get(name, 0), summary.after.get(name, 0)
        if before or after:
            table.add_row(name.replace("reject:", "  "), str(before), str(after))
    out.print(table)
    out.print(f"in the index: {summary.num_indexed}; decided in {summary.seconds:.1f} s, 0 frames decoded")
    if summary.num_uncut:
        out.print(f"{summary.num_uncut} kept clips are in no shard yet; reelpack status {dataset} names the command")


def show_retry(summary: "RetrySummary") -> None:
    if summary.curated is None:
        out.print("no failure of curate is of a kind to attempt again" if summary.before else "no failures")
    table = Table("step", "failure", "before", "now", box=None, pad_edge=False)
    for step, kind in sorted({*summary.before, *summary.after}):
        key = (step, kind)
        table.add_row(step, kind, str(summary.before.get(key, 0)), str(summary.after.get(key, 0)))
    if table.rows:
        out.print(table)
    for command, count in summary.elsewhere.items():
        out.print(f"{count} failed elsewhere; attempt them by: {command}", markup=False)


def show_plan(plan: "CurationPlan") -> None:
    def row(estimate: "Estimate", scale: float, unit: str) -> tuple[str, str]:
        value, low, high = (number / scale for number in (estimate.value, estimate.low, estimate.high))
        return f"{value:.3g} {unit}", f"{low:.3g} – {high:.3g}"

    table = Table("", "", "90 % interval", box=None, pad_edge=False)
    table.add_row(
        "files", str(plan.num_files), f"{plan.num_sampled} sampled, {plan.num_unreadable} of them unreadable"
    )
    table.add_row("video", *row(plan.video_s, 3600, "h"))
    for step, seconds in plan.step_s.items():
        table.add_row(f"{step}, one worker", *row(seconds, 3600, "h"))
    table.add_row("clips", *row(plan.clips, 1, ""))
    table.add_row("  kept", *row(plan.kept, 1, ""))
    table.add_row("shards", *row(plan.shard_bytes, 2**30, "GiB"))
    out.print(table)
    for sentence in plan.unknown:
        out.print(f"not in it: {sentence}")


def show_status(status: "Status") -> None:
    table = plain_table()
    known = sum(status.inputs.values())
    listed = f" of {status.num_inputs}" if status.num_inputs is not None else ""
    table.add_row("inputs known" if listed else "inputs", f"{known}{listed}")
    for name, count in sorted(status.inputs.items()):
        table.add_row(f"  {name}", str(count))
    for family, count in status.scored.items():
        table.add_row(f"scored by {family}", f"{count} of {status.funnel['clips']}")
    _add_funnel(table, status.funnel)
    table.add_row("kept and cut", f"{status.num_cut} of {status.funnel.get('keep', 0)}")
    for family, count in status.captioned.items():
        table.add_row(f"captioned by {family}", str(count))
    for fingerprint, count in status.encoded.items():
        table.add_row(f"latents {fingerprint}", str(count))
    for (step, kind, retryable), count in sorted(status.failures.items()):
        table.add_row(f"failed: {step}, {kind}{', retryable' if retryable else ''}", str(count))
    out.print("a run is under way, or was stopped" if status.is_running else "the last run came to its end")
    out.print(table)
    out.print(f"next: {status.next_command}", markup=False)


def show_explanation(story: "Explanation") -> None:
    from pipelines.explain import time_code

    clip, video = story.clip, story.video
    facts = plain_table()
    facts.columns[1].justify = "left"
    facts.add_row("clip", clip["clip_id"])
    facts.add_row("decision", f"{clip['decision']} {', '.join(clip['reasons'])}".strip())
    facts.add_row("split", clip["split"])
    for uri in story.uris:
        facts.add_row("source", uri)
    facts.add_row("time", f"{time_code(clip['start_s'])} – {time_code(clip['end_s'])}")
    facts.add_row("exactly", f"pts {clip['start_pts']} – {clip['end_pts']} in units of {clip['time_base']} s")
    size = f"{clip['width']}x{clip['height']}, {clip['num_frames']} frames at {clip['fps']:.4g}/s"
    facts.add_row("picture", f"{size}; {video['codec']} {video['pixel_format']} in {video['container']}")
    if story.shard:
        facts.add_row("shard", f"{story.shard['shard']}, {story.shard['size']} bytes from {story.shard['offset']}")
    for copy in story.copies:
        kept = "kept instead" if clip.get("duplicate_of") == copy["clip_id"] else copy["decision"]
        facts.add_row("copy", f"{copy['clip_id']} ({kept}, {copy['width']}x{copy['height']}) of {copy['video_uri']}")
    out.print(facts)
    table = Table("measured", "value", "policy", "", "by", box=None, pad_edge=False)
    for one in story.measures:
        value = "–" if one.value is None else f"{one.value:.5g}"
        bounds = " and ".join(
            f"{sign} {limit:g}" for sign, limit in (("≥", one.min), ("≤", one.max)) if limit is not None
        )
        table.add_row(one.name, value, bounds, one.verdict, one.family)
    out.print(table)
    for record in story.captions:
        out.print(
            f"{record['kind']} caption by {record['model']} ({record['prompt_id']}): {record['text']}", markup=False
        )
    for row in story.failures:
        again = "; retryable" if row["retryable"] else ""
        out.print(
            f"failed: {row['step']}: {row['kind']}: {row['detail']} ({row['attempts']} attempts{again})", markup=False
        )


def show_clips(clips: "Sequence[Mapping[str, Any]]") -> None:
    from pipelines.explain import time_code

    table = Table("clip", "time", "decision", "", box=None, pad_edge=False)
    for clip in clips:
        span = f"{time_code(clip['start_s'])} – {time_code(clip['end_s'])}"
        table.add_row(clip["clip_id"], span, clip["decision"], ", ".join(clip["reasons"]))
    out.print(table)


def show_verified(found: "Verified") -> None:
    for check in found.checks:
        out.print(check, markup=False)
    for problem in found.problems[:MAX_PROBLEMS]:
        out.print(f"problem: {problem}", markup=False)
    if len(found.problems) > MAX_PROBLEMS:
        out.print(f"… and {len(found.problems) - MAX_PROBLEMS} more")


def show_findings(findings: "Sequence[Finding]") -> None:
    table = Table("where", "", "", "", box=None, pad_edge=False)
    colors = {"ok": "green", "warn": "yellow", "fail": "bold red"}
    for one in findings:
        table.add_row(one.where, one.what, f"[{colors[one.verdict]}]{one.verdict}[/]", escape(one.detail))
    out.print(table)


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
