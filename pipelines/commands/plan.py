"""`reelpack plan`: predict what a step will take: hours, GiB and money."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from pipelines.commands.options import ConfigOption, ExecutorOption, SetOption
from pipelines.console.tables import duration_text, out, size_text
from pipelines.settings import as_last, local_first, resolved_config

if TYPE_CHECKING:
    from pipelines.config import Config
    from pipelines.estimate.bootstrap import Estimate
    from pipelines.estimate.plan_caption import CaptionPlan
    from pipelines.estimate.plan_curation import CurationPlan
    from pipelines.estimate.plan_encode import EncodePlan
    from pipelines.estimate.plan_train import TrainPlan

Step = Literal["curate", "caption", "encode", "train"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Nodes:
    """Machines like this one that share a step, and the price of an hour of one of them."""

    count: int
    price_per_hour: float | None


def plan(
    inputs: Annotated[list[str], typer.Argument(help="as for `curate`; for other steps the dataset directory")],
    step: Annotated[Step, typer.Option(help="the step that is predicted")] = "curate",
    sample: Annotated[
        int | None, typer.Option(min=1, help="excerpts (8), clips (20) or training steps (10) that are run")
    ] = None,
    nodes: Annotated[int, typer.Option(min=1, help="machines like this one that share the step")] = 1,
    price_per_hour: Annotated[float | None, typer.Option(min=0, help="of one of these machines")] = None,
    price_per_million_tokens: Annotated[
        tuple[float, float] | None, typer.Option(help="of the prompt and of the output, for captions")
    ] = None,
    config: ConfigOption = None,
    set: SetOption = None,
    executor: ExecutorOption = None,
) -> None:
    """Predict the hours, the GiB and the cost of a step by running a part of it.

    `curate` runs excerpts of the videos, `caption` and `encode` a few clips, `train` its first steps.
    """
    if price_per_million_tokens is not None and step != "caption":
        raise ValueError("--price-per-million-tokens is for --step caption")
    if step not in ("curate", "train") and len(inputs) != 1:
        raise ValueError(f"--step {step}: got {len(inputs)} inputs, expected one dataset directory")
    here = Nodes(count=nodes, price_per_hour=price_per_hour)
    if step == "curate":
        _curate(inputs, resolved_config(config, set, executor=executor), sample, here)
    elif step == "train":
        _train(inputs, resolved_config(config, set), sample, here)
    elif step == "encode":
        last = as_last(inputs[0], "encode", config)
        _encode(inputs[0], local_first(config, set, executor, None, last), sample, here)
    else:
        _caption(inputs[0], local_first(config, set, executor, None), sample, here, price_per_million_tokens)


def _curate(inputs: list[str], config: "Config", sample: int | None, nodes: Nodes) -> None:
    from pipelines.estimate import plan_curation

    show(plan_curation.plan(inputs, config, num_sampled=sample or 8), nodes)


def _caption(
    dataset: str, config: "Config", sample: int | None, nodes: Nodes, token_prices: tuple[float, float] | None
) -> None:
    from pipelines.estimate import plan_caption

    prompt_price, output_price = token_prices or (None, None)
    rates = plan_caption.Rates(
        per_hour=nodes.price_per_hour, per_million_prompt_tokens=prompt_price, per_million_output_tokens=output_price
    )
    show_captions(plan_caption.plan(dataset, config, num_sampled=sample or 20, rates=rates), nodes)


def _encode(dataset: str, config: "Config", sample: int | None, nodes: Nodes) -> None:
    from pipelines.estimate import plan_encode

    show_encoding(plan_encode.plan(dataset, config, num_sampled=sample or 20), nodes)


def _train(datasets: list[str], config: "Config", sample: int | None, nodes: Nodes) -> None:
    from pipelines.estimate import plan_train

    show_training(plan_train.plan(datasets, config, num_sampled=sample or 10, num_ranks=nodes.count), nodes)


def show(plan: "CurationPlan", nodes: Nodes) -> None:
    table = _table()
    unreadable = f", {plan.num_unreadable} of them unreadable" if plan.num_unreadable else ""
    table.add_row("files", str(plan.num_files), f"{plan.num_probed} probed{unreadable}")
    table.add_row("excerpts run", str(plan.num_excerpts))
    _add(table, "video", plan.video_s, duration_text)
    for step, seconds in plan.step_s.items():
        _add(table, f"{step}, one worker", seconds, duration_text)
    _add_time(table, plan.total_s.times(1 / nodes.count), plan.num_workers, nodes)
    _add(table, "clips", plan.clips, _count)
    _add(table, "  kept", plan.kept, _count)
    _add(table, "shards", plan.shard_bytes, size_text)
    _add_price(table, plan.total_s, nodes)
    out.print(table)
    if plan.num_excerpts == 1:
        out.print("one excerpt has no error bar: --sample 8 or more, and several files, give one")
    _show_unknown(plan.unknown)


def show_captions(plan: "CaptionPlan", nodes: Nodes) -> None:
    table = _table()
    table.add_row("captioner", plan.family)
    failed = f", {plan.num_failed} failed" if plan.num_failed else ""
    table.add_row("clips without captions", str(plan.num_clips), f"{plan.num_probed} captioned by this probe{failed}")
    table.add_row("clips left", str(plan.num_left))
    _add_time(table, plan.total_s.times(1 / nodes.count), plan.num_workers, nodes)
    _add(table, "prompt tokens", plan.prompt_tokens, _count)
    _add(table, "output tokens", plan.output_tokens, _count)
    if plan.price is not None:
        _add(table, "price", plan.price, _money)
    _add(table, "captions not used", plan.rejected, lambda share: f"{share:.0%}")
    _add(table, "captions with several attempts", plan.retried, lambda share: f"{share:.0%}")
    out.print(table)
    out.print("the captions of the probe are stored; `reelpack caption` does the rest")
    _show_unknown(plan.unknown)


def show_encoding(plan: "EncodePlan", nodes: Nodes) -> None:
    table = _table()
    failed = f", {plan.num_failed} failed" if plan.num_failed else ""
    table.add_row("clips without latents", str(plan.num_clips), f"{plan.num_probed} encoded by this probe{failed}")
    table.add_row("clips whose captions are not embedded", str(plan.num_texts))
    _add_time(table, plan.total_s.times(1 / nodes.count), plan.num_workers, nodes)
    _add(table, "latents", plan.latent_bytes, size_text)
    _add(table, "text embeddings", plan.text_bytes, size_text)
    _add(table, "tokens", plan.num_tokens, _count)
    _add_price(table, plan.total_s, nodes)
    out.print(table)
    out.print("nothing of the probe is stored")
    _show_unknown(plan.unknown)


def show_training(plan: "TrainPlan", nodes: Nodes) -> None:
    table = _table()
    told = plan.forecast
    table.add_row("steps", f"{plan.num_steps:,}", f"{plan.num_probed} timed by this probe")
    table.add_row("epochs", f"{told.num_epochs:,.1f}", f"{told.num_tokens:,} tokens each")
    table.add_row("memory of a rank", size_text(told.state_bytes + told.activation_bytes))
    table.add_row("checkpoints", size_text(plan.checkpoint_bytes))
    _add(table, "a step", plan.step_s, duration_text)
    _add_time(table, plan.total_s, 1, nodes)
    _add_price(table, plan.total_s.times(nodes.count), nodes)
    out.print(table)
    out.print("`reelpack train-plan` tells more of packs, memory and captions")
    _show_unknown(plan.unknown)


def _table() -> Table:
    return Table("", "", "90 % interval", box=None, pad_edge=False)


def _add(table: Table, name: str, estimate: "Estimate", text: Callable[[float], str]) -> None:
    table.add_row(name, text(estimate.value), f"{text(estimate.low)} – {text(estimate.high)}")


def _add_time(table: Table, total_s: "Estimate", num_workers: int, nodes: Nodes) -> None:
    machines = f" on each of {nodes.count} machines" if nodes.count > 1 else ""
    workers = f"{num_workers} worker{'' if num_workers == 1 else 's'}"
    _add(table, f"all, {workers}{machines}", total_s, duration_text)


def _add_price(table: Table, machine_s: "Estimate", nodes: Nodes) -> None:
    """Of the seconds of all machines together."""
    if nodes.price_per_hour is not None:
        _add(table, "price", machine_s.times(nodes.price_per_hour / 3600), _money)


def _show_unknown(sentences: tuple[str, ...]) -> None:
    for sentence in sentences:
        out.print(f"not in it: {sentence}")


def _count(amount: float) -> str:
    return f"{amount:,.0f}"


def _money(amount: float) -> str:
    return f"{amount:,.2f}"
