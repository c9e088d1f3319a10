"""`reelpack status`: how far a dataset is."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.commands.options import DatasetArgument
from pipelines.commands.without_pandas import WithoutPandas
from pipelines.console.tables import add_funnel, duration_text, out, plain_table, show_failures, show_next

if TYPE_CHECKING:
    from pipelines.inspection.status import Status


@WithoutPandas()
def status(
    dataset: DatasetArgument,
    watch: Annotated[float | None, typer.Option(min=1, help="show it again every so many seconds")] = None,
    json: Annotated[bool, typer.Option("--json", help="one line of JSON, for scripts")] = False,
) -> None:
    """How far a dataset is: works while a job runs, and writes nothing."""
    import time

    from pipelines.inspection import status as current

    while True:
        found = current.status(dataset)
        if json:
            typer.echo(to_json(found))
        else:
            if watch is not None:
                out.clear()
            show(found)
        if watch is None:
            return
        time.sleep(watch)


def show(status: "Status") -> None:
    table = plain_table()
    known = sum(status.inputs.values())
    table.add_row("inputs", str(known) if status.num_inputs is None else f"{known} of {status.num_inputs}")
    names = {"ok": "scanned"}
    for name, count in sorted(status.inputs.items(), key=lambda pair: pair[0] != "ok"):
        table.add_row(f"  {names.get(name, f'failed: {name}')}", str(count))
    if status.num_forgotten:
        table.add_row("forgotten inputs, left out", str(status.num_forgotten))
    for family, count in status.scored.items():
        table.add_row(f"scored by {family}", f"{count} of {status.funnel['clips']}")
    for name, bound in status.relative.items():
        table.add_row(f"rule {name}", bound)
    add_funnel(table, status.funnel)
    num_kept = status.funnel.get("keep", 0)
    table.add_row("cut", f"{status.num_cut} of {num_kept}")
    for family in sorted(status.captioned, key=lambda family: family not in status.used):
        is_used, count = family in status.used, status.captioned[family]
        table.add_row(f"captioned by {family}", f"{count} of {status.num_cut}{'' if is_used else ', not used'}")
        for state, captions in sorted(status.captions[family].items(), key=lambda pair: -pair[1]) if is_used else ():
            table.add_row(f"  captions {state}", str(captions))
    for fingerprint, count in status.encoded.items():
        table.add_row(f"latents {fingerprint}", f"{count} of {status.num_cut}")
    idle = "" if status.idle_s is None else f"; the tables last grew {duration_text(status.idle_s)} ago"
    out.print(f"{'a run is under way, or was stopped' if status.is_running else 'no run is under way'}{idle}")
    for writer in status.writers:
        out.print(f"writes here: {writer}", markup=False)
    out.print(table)
    if status.failures:
        show_failures(status.failures)
    if status.caption_note:
        out.print(f"the captions are by {status.caption_note}", markup=False)
    show_next(status)


def to_json(status: "Status") -> str:
    return json.dumps(asdict(status))
