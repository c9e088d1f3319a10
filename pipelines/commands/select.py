"""`reelpack select`: decide again under another policy, from stored scores."""

from typing import TYPE_CHECKING

import typer
from rich.table import Table

from pipelines.commands.options import ConfigOption, DatasetArgument, SetOption
from pipelines.commands.without_pandas import WithoutPandas
from pipelines.console.tables import DECISIONS, out

if TYPE_CHECKING:
    from curate.dataset.dataset import Dataset
    from pipelines.drivers.select import SelectSummary


@WithoutPandas()
def select(dataset: DatasetArgument, config: ConfigOption = None, set: SetOption = None) -> None:
    """Decide again under another policy (--set select.rules.motion.min=0.01), from stored scores; decodes nothing."""
    from curate.dataset.dataset import Dataset
    from pipelines.drivers import select as select_clips

    decided = select_clips.select(dataset, config, set or ())
    show(decided, Dataset(dataset))
    if not decided.after.get("keep"):
        raise typer.Exit(1)


def show(summary: "SelectSummary", dataset: "Dataset") -> None:
    from pipelines.dataset import curate_command

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
        out.print(summary.why_nothing, style="red")
    if summary.num_uncut:
        out.print(f"{summary.num_uncut} kept clips are not in a shard yet: run", markup=False)
        out.print(curate_command(dataset), markup=False)
