"""`reelpack train-plan`: what a training will be: packs, steps, token efficiency, memory, captions."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from pipelines.commands.options import ConfigOption, DatasetsArgument, SetOption
from pipelines.console.tables import out, plain_table
from pipelines.settings import resolved_config

if TYPE_CHECKING:
    from train.estimate.blend import BlendForecast
    from train.estimate.forecast import Forecast


def train_plan(
    dataset: DatasetsArgument,
    ranks: Annotated[int, typer.Option(min=1, help="workers that share a step")] = 1,
    config: ConfigOption = None,
    set: SetOption = None,
) -> None:
    """What a training will be: packs, steps, token efficiency, idle workers, memory, captions. Reads indices only."""
    resolved = resolved_config(config, set)
    from train.estimate.forecast import forecast

    budget, sharing = resolved.train.data.plan.token_budget, resolved.train.parallel.context
    show(forecast(resolved.train, dataset, ranks), budget, ranks, sharing)


def show(forecast: "Forecast", token_budget: int, num_ranks: int, num_sharing: int = 1) -> None:
    """`num_sharing`: ranks that share a pack."""
    table = plain_table()
    table.add_row("clips", f"{forecast.num_clips:,}")
    table.add_row("samples, tokens of an epoch", f"{forecast.num_seen:,}, {forecast.num_tokens:,}")
    for part in forecast.parts if len(forecast.parts) > 1 else ():
        samples, tokens = part.num_seen / forecast.num_seen, part.num_tokens / forecast.num_tokens
        table.add_row(f"  {part.name}", f"{part.num_seen:,} ({samples:.1%}), {part.num_tokens:,} ({tokens:.1%})")
    table.add_row("packs, steps of an epoch", f"{forecast.num_packs:,}, {forecast.num_steps:,}")
    table.add_row("epochs of the run", f"{forecast.num_epochs:,.1f}")
    table.add_row("times that the run meets a clip", f"{forecast.meetings:,.1f}")
    table.add_row("real tokens per pack slot", f"{forecast.token_efficiency:.1%}")
    if num_sharing > 1:
        table.add_row(f"tokens of a rank, {num_sharing} to a full pack", f"{-(-token_budget // num_sharing):,}")
    waiting = f"{num_ranks} ranks" if num_sharing == 1 else f"{num_ranks // num_sharing} groups"
    table.add_row(f"idle of {waiting}, predicted", f"{forecast.idle:.1%}")
    table.add_row(f"above the budget of {token_budget:,}: cut", str(forecast.num_cut))
    table.add_row(f"above the budget of {token_budget:,}: own pack", str(forecast.num_oversize))
    table.add_row("parameters", f"{forecast.num_parameters:,}")
    table.add_row("weights, gradients, optimizer, average, per rank", f"{forecast.state_bytes / 2**30:.2f} GiB")
    table.add_row("activations of the largest pack, about", f"{forecast.activation_bytes / 2**30:.2f} GiB")
    out.print(table)
    if forecast.blend is not None:
        show_blend(forecast.blend)


def show_blend(blend: "BlendForecast") -> None:
    """Levels of captions: the shares that are asked for, expected and drawn, and the tokens of their texts."""
    levels = blend.levels
    if not any(level.num_texts for level in levels):
        out.print("no clip has a caption: every sample is trained under the null caption")
        return
    table = plain_table()
    table.add_row(f"of {blend.num_samples:,} samples of an epoch, under a caption", f"{blend.captioned:.1%}")
    table.add_row("  caption dropped", f"{blend.dropped:.1%}")
    table.add_row("  clip without a caption of the blend", f"{blend.uncaptioned:.1%}")
    for kind, (captioned, count) in blend.clips.items():
        table.add_row(f"{kind}s with a caption of the blend", f"{captioned:,} of {count:,}")
    out.print(table)
    limit = "" if blend.max_tokens is None else f" at {blend.max_tokens}"
    heads = ("captions", "weight", "expected", "drawn", "texts", "median tokens", "most", f"cut{limit}")
    table = _numbers(*heads)
    for level in levels:
        shares = (f"{share:.1%}" for share in (level.weight, level.expected, level.drawn))
        facts = (level.num_texts, level.median_tokens, level.most_tokens, level.num_cut)
        table.add_row(level.level, *shares, *(f"{fact:,}" for fact in facts))
    out.print(table)
    table = _numbers("texts of tokens", *(level.level for level in levels))
    for number, name in enumerate([*(f"to {edge:,}" for edge in blend.edges), f"over {blend.edges[-1]:,}"]):
        counts = [level.tokens[number] for level in levels]
        if any(counts):
            table.add_row(name, *(f"{count:,}" for count in counts))
    out.print(table)


def _numbers(first: str, *heads: str) -> Table:
    table = Table(first, box=None, pad_edge=False)
    for head in heads:
        table.add_column(head, justify="right")
    return table
