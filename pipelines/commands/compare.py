"""`reelpack compare`: several models on one dataset, at equal steps, operations or time."""

import re
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from curate.report.comparison import verdict
from pipelines.commands.options import ConfigOption, DatasetArgument, SetOption
from pipelines.console.interrupted import of_comparison, stays
from pipelines.console.tables import out as console
from pipelines.settings import resolved_config

if TYPE_CHECKING:
    from pipelines.config import Config
    from pipelines.drivers.compare import Compared


def compare(
    dataset: DatasetArgument,
    out: Annotated[str, typer.Option(help="folder of the runs, compare.json and index.html; stopped runs resume")],
    variant: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=SETTINGS",
            help="a model: settings as of --set, separated by ;, or a YAML file or a shipped one by name; repeatable, "
            "and the first sets the budget",
        ),
    ],
    budget: Annotated[Literal["steps", "flops", "time"], typer.Option(help="what every run has as much of")] = "flops",
    match_parameters: Annotated[
        bool, typer.Option("--match-parameters", help="change widths until parameters are about those of the first")
    ] = False,
    seeds: Annotated[int, typer.Option(min=1, help="runs of each variant, with the seeds 0, 1, …")] = 3,
    config: ConfigOption = None,
    set: SetOption = None,
) -> None:
    """Train several models on one dataset, and compare their held-out losses."""
    variants = dict(_variant(one, config, set or []) for one in variant)
    if len(variants) < len(variant):
        raise ValueError(f"--variant: got a name twice in {', '.join(one.partition('=')[0] for one in variant)}")
    from pipelines.drivers import compare as driver

    with stays(of_comparison, out):
        found, page = driver.compare(
            dataset, out, variants, budget=budget, match_parameters=match_parameters, seeds=range(seeds)
        )
    show(found)
    typer.echo(page)


def _variant(given: str, config: str | None, shared: list[str]) -> tuple[str, "Config"]:
    name, equals, settings = given.partition("=")
    if not equals or not re.fullmatch(r"[\w.-]+", name):
        raise ValueError(
            f"--variant {given}: expected NAME=SETTINGS, such as mamba='train.model.mixer={{kind: mamba}};"
            "train.model.position=sincos'; NAME has letters, digits, dots and dashes"
        )
    own = [one.strip() for one in settings.split(";") if one.strip()]
    is_file = bool(own) and "=" not in settings
    if is_file and config is not None:
        raise ValueError(f"--variant {given}: got a file, and --config {config}; give one of them")
    try:
        return name, resolved_config(settings, shared) if is_file else resolved_config(config, [*shared, *own])
    except ValueError as error:
        raise ValueError(f"--variant {name}: {error}") from error


def show(found: "list[Compared]") -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("variant")
    for head in ("held-out loss", "parameters", "steps", "TFLOP", "tokens/s", "time, s", "GiB"):
        table.add_column(head, justify="right")
    for one in found:
        spread = "" if one.spread is None else f" ± {one.spread:.4f}"
        speed, seconds = (fmean(getattr(run, name) for run in one.runs) for name in ("tokens_per_s", "seconds"))
        memory = max(run.memory_gib for run in one.runs)
        cells = (f"{one.loss:.4f}{spread}", f"{one.num_parameters:,}", f"{one.steps:,}", f"{one.tflop:.3g}")
        table.add_row(one.name, *cells, f"{speed:,.0f}", f"{seconds:.3g}", f"{memory:.2f}")
    console.print(table)
    told = verdict([(one.name, one.loss, one.spread) for one in found])
    console.print(told, highlight=False, markup=False, soft_wrap=True)
