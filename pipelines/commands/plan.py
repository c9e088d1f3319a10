"""`reelpack plan`: predict hours, GiB and clips of a `curate`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from pipelines.commands.options import ConfigOption, ExecutorOption, SetOption, resolved_config
from pipelines.console.tables import duration_text, out, size_text

if TYPE_CHECKING:
    from pipelines.estimate.plan_curation import CurationPlan, Estimate


def plan(
    inputs: Annotated[list[str], typer.Argument(help="as for `curate`")],
    sample: Annotated[int, typer.Option(min=1, help="excerpts that are run")] = 8,
    config: ConfigOption = None,
    set: SetOption = None,
    executor: ExecutorOption = None,
) -> None:
    """Predict hours, GiB and clips of a `curate`, by running it on excerpts of some files."""
    resolved = resolved_config(config, set, executor=executor)
    from pipelines.estimate import plan_curation

    show(plan_curation.plan(inputs, resolved, num_sampled=sample))


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
