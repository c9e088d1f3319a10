"""`reelpack forget`: take videos down, with all that was made of them."""

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.commands.options import DatasetArgument
from pipelines.commands.without_pandas import WithoutPandas
from pipelines.console.tables import out

if TYPE_CHECKING:
    from pipelines.drivers.forget import ForgetPlan, ForgetSummary

MAX_SHOWN = 20


@WithoutPandas()
def forget(
    dataset: DatasetArgument,
    videos: Annotated[
        list[str] | None,
        typer.Argument(
            help="videos: URIs or ends of them, ids, or a clip of each; none: all that were forgotten, again"
        ),
    ] = None,
    where: Annotated[
        str | None, typer.Option(help="also the videos of clips that meet this: \"licence = 'CC BY'\" (DuckDB)")
    ] = None,
    duplicates: Annotated[
        bool, typer.Option("--duplicates", help="also the videos with copies of their clips")
    ] = False,
    reason: Annotated[str, typer.Option(help="kept with the tombstone")] = "",
    runs: Annotated[
        list[str] | None, typer.Option(help="folder to look for trainings of this dataset in; repeatable")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show what would go; change nothing")] = False,
) -> None:
    """Take videos down: out of shards, latents, captions, tables and report, and out of all later runs."""
    from pipelines.drivers import forget as forgetting

    plan = forgetting.plan_forget(dataset, videos or (), where, duplicates=duplicates, runs=runs or ())
    show_plan(plan)
    if not plan.targets or dry_run:
        out.print("nothing is changed" if dry_run else "nothing to forget")
        return
    show(forgetting.forget(dataset, plan.targets, reason), dataset)


def show_plan(plan: "ForgetPlan") -> None:
    for name, at in plan.known:
        out.print(f"{name}: forgotten already, {at}", markup=False)
    for uri in plan.resumed:
        out.print(f"{uri}: was forgotten before; what is left of it goes", markup=False)
    for target in plan.targets[:MAX_SHOWN]:
        names = ", ".join(target.uris)
        out.print(f"forget {names}: {len(target.clip_ids)} clips", markup=False)
    if (num := len(plan.targets)) > MAX_SHOWN:
        out.print(f"… and {num - MAX_SHOWN} more")
    if num:
        out.print(f"{num} videos with {plan.num_clips} clips, {plan.num_indexed} of them in the index")
    for copy in plan.copies[:MAX_SHOWN]:
        out.print(
            f"stays, though it has copies: {copy.uris[0] if copy.uris else copy.video_id}, "
            f"{len(copy.clip_ids)} clips such as {copy.clip_ids[0]}",
            markup=False,
        )
    if plan.copies:
        out.print(f"{len(plan.copies)} videos have copies of these clips: --duplicates forgets them, too")
    for run in plan.runs:
        clips = "" if run.train_clips is None else f" on {run.train_clips} clips of it"
        now = ", and trains now: it stops at a clip that is gone" if run.is_running else ""
        out.print(f"trained{clips}{now}: {run.folder}", markup=False)
    if plan.runs:
        out.print(
            "what they learned stays in their weights. They sample as before; a training whose clips are gone does "
            "not resume, and begins again with `reelpack train … --out OTHER`"
        )


def show(summary: "ForgetSummary", dataset: str) -> None:
    out.print(f"{len(summary.tars)} tars are written again without them, or gone", markup=False)
    for name in summary.made:
        again = "reelpack report" if name == "report" else "reelpack export"
        out.print(f"removed: {name}; `{again} {shlex.quote(dataset)} …` makes it again", markup=False)
    for name in summary.unknown:
        out.print(f"not looked into, as reelpack did not write it: {name}", markup=False)
    out.print(f"kept: {summary.num_kept} clips, in the index: {summary.num_indexed}")
    if summary.note:
        out.print(f"not decided again: {summary.note}", markup=False)
    elif summary.num_kept > summary.num_indexed:
        out.print(
            f"{summary.num_kept - summary.num_indexed} kept clips are in no shard yet, such as copies that take the "
            f"place of what is gone: `reelpack status {shlex.quote(dataset)}` has the command that cuts them",
            markup=False,
        )
    out.print("forgotten. Exports elsewhere, and older versions that a store keeps of objects, are not reached")
