"""`reelpack plan`: predict what a `curate` or a `caption` will take."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from pipelines.commands.options import ConfigOption, ExecutorOption, SetOption, local_first, resolved_config
from pipelines.console.tables import duration_text, out, size_text

if TYPE_CHECKING:
    from pipelines.estimate.bootstrap import Estimate
    from pipelines.estimate.plan_caption import CaptionPlan
    from pipelines.estimate.plan_curation import CurationPlan


def plan(
    inputs: Annotated[list[str], typer.Argument(help="as for `curate`; for captions the dataset directory")],
    step: Annotated[Literal["curate", "caption"], typer.Option(help="curate or caption")] = "curate",
    sample: Annotated[int | None, typer.Option(min=1, help="excerpts (8) or clips (20) that are run")] = None,
    price_per_hour: Annotated[float | None, typer.Option(min=0, help="of all workers, for captions")] = None,
    price_per_million_tokens: Annotated[
        tuple[float, float] | None, typer.Option(help="of the prompt and of the output, for captions")
    ] = None,
    config: ConfigOption = None,
    set: SetOption = None,
    executor: ExecutorOption = None,
) -> None:
    """Predict the hours and the cost of a step by running a part of it.

    `curate`: hours, GiB and clips, from excerpts. `caption`: hours, tokens and price, from a few clips.
    """
    if step == "curate":
        if price_per_hour is not None or price_per_million_tokens is not None:
            raise ValueError("--price-per-hour and --price-per-million-tokens are for --step caption")
        from pipelines.estimate import plan_curation

        resolved = resolved_config(config, set, executor=executor)
        show(plan_curation.plan(inputs, resolved, num_sampled=sample or 8))
        return
    if len(inputs) != 1:
        raise ValueError(f"--step caption: got {len(inputs)} inputs, expected one dataset directory")
    from pipelines.estimate import plan_caption

    prompt_price, output_price = price_per_million_tokens or (None, None)
    rates = plan_caption.Rates(
        per_hour=price_per_hour, per_million_prompt_tokens=prompt_price, per_million_output_tokens=output_price
    )
    resolved = local_first(config, set, executor, None)
    show_captions(plan_caption.plan(inputs[0], resolved, num_sampled=sample or 20, rates=rates))


def show(plan: "CurationPlan") -> None:
    table = Table("", "", "90 % interval", box=None, pad_edge=False)
    unreadable = f", {plan.num_unreadable} of them unreadable" if plan.num_unreadable else ""
    table.add_row("files", str(plan.num_files), f"{plan.num_probed} probed{unreadable}")
    table.add_row("excerpts run", str(plan.num_excerpts))
    _add_estimate(table, "video", plan.video_s, duration_text)
    for step, seconds in plan.step_s.items():
        _add_estimate(table, f"{step}, one worker", seconds, duration_text)
    _add_estimate(table, f"all, {plan.num_workers} workers", plan.total_s, duration_text)
    _add_estimate(table, "clips", plan.clips, lambda count: f"{count:,.0f}")
    _add_estimate(table, "  kept", plan.kept, lambda count: f"{count:,.0f}")
    _add_estimate(table, "shards", plan.shard_bytes, size_text)
    out.print(table)
    if plan.num_excerpts == 1:
        out.print("one excerpt has no error bar: --sample 8 or more, and several files, give one")
    for sentence in plan.unknown:
        out.print(f"not in it: {sentence}")


def _add_estimate(table: Table, name: str, estimate: "Estimate", text: Any) -> None:
    table.add_row(name, text(estimate.value), f"{text(estimate.low)} – {text(estimate.high)}")


def show_captions(plan: "CaptionPlan") -> None:
    table = Table("", "", "90 % interval", box=None, pad_edge=False)
    table.add_row("captioner", plan.family)
    failed = f", {plan.num_failed} failed" if plan.num_failed else ""
    table.add_row("clips without captions", str(plan.num_clips), f"{plan.num_probed} captioned by this probe{failed}")
    table.add_row("clips left", str(plan.num_left))
    _add_estimate(table, f"time, {plan.num_workers} workers", plan.total_s, duration_text)
    _add_estimate(table, "prompt tokens", plan.prompt_tokens, lambda count: f"{count:,.0f}")
    _add_estimate(table, "output tokens", plan.output_tokens, lambda count: f"{count:,.0f}")
    if plan.price is not None:
        _add_estimate(table, "price", plan.price, lambda price: f"{price:,.2f}")
    _add_estimate(table, "captions not used", plan.rejected, lambda share: f"{share:.0%}")
    _add_estimate(table, "captions with several attempts", plan.retried, lambda share: f"{share:.0%}")
    out.print(table)
    out.print("the captions of the probe are stored; `reelpack caption` does the rest")
    for sentence in plan.unknown:
        out.print(f"not in it: {sentence}")
