"""`reelpack shots`: the shots of one video, as a table, as lists for other tools, and as a picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from pipelines.commands.options import ConfigOption, SetOption
from pipelines.console.tables import out
from pipelines.settings import resolved_config

if TYPE_CHECKING:
    from curate.shot_list import ShotList

ToOption = typer.Option(metavar="FILE", help="write the list there; - for standard output")


def shots(
    video: Annotated[str, typer.Argument(help="video file or URL")],
    detector: Annotated[
        str | None, typer.Option(help="kind of shot detector: scan.detector.kind, with its defaults")
    ] = None,
    csv: Annotated[str | None, ToOption] = None,
    edl: Annotated[str | None, ToOption] = None,
    otio: Annotated[str | None, ToOption] = None,
    json: Annotated[str | None, ToOption] = None,
    strip: Annotated[
        str | None, typer.Option(metavar="FILE", help="draw the film, its cuts and scores: .png, .jpg or .webp")
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Find the shots of one video, as `curate` does; no dataset is needed."""
    chosen = [] if detector is None else [f"scan.detector={{kind: {detector}}}", "scan.sources=[]"]
    settings = resolved_config(config, [*chosen, *(set_ or [])])
    wanted = {"csv": csv, "edl": edl, "otio": otio, "json": json}
    _check_targets({**{name: target for name, target in wanted.items() if target != "-"}, "strip": strip})
    if [*wanted.values()].count("-") > 1:
        raise ValueError("two lists to standard output: give a file for all but one of --csv, --edl, --otio, --json")

    from curate.media.fetch import local_copy
    from curate.schema import MediaError
    from curate.shot_list import find_shots
    from curate.shots.formats import FORMATS

    try:
        with local_copy(video) as path:
            found = find_shots(path, video, settings.scan)
            if strip is not None:
                from curate.shots.strip import draw_strip

                draw_strip(found, path).save(strip)
    except MediaError as error:
        raise ValueError(f"{video}: {error.kind}: {error.detail}") from None
    for name, target in wanted.items():
        if target == "-":
            typer.echo(FORMATS[name](found), nl=False)
        elif target is not None:
            Path(target).write_text(FORMATS[name](found), encoding="utf-8")
    if "-" not in wanted.values():
        show(found)


def show(found: "ShotList") -> None:
    from pipelines.inspection.explain import time_code

    edges_s = [*found.timeline.starts_s.tolist(), found.timeline.end_s]
    table = Table("shot", "time", "frames", "seconds", "ends by", "left out", box=None, pad_edge=False)
    for clip in found.clips:
        start_s, end_s = edges_s[clip.first], edges_s[clip.end]
        left_out = f"{clip.after.num_left_out}" if clip.after.num_left_out else ""
        table.add_row(
            str(clip.number),
            f"{time_code(start_s)} – {time_code(end_s)}",
            f"{clip.first} – {clip.end}",
            f"{end_s - start_s:.3f}",
            clip.after.kind,
            left_out,
        )
    out.print(table)
    num_frames = len(found.timeline.pts)
    num_kept = sum(clip.end - clip.first for clip in found.clips)
    by_kind = [one.kind for one in found.transitions]
    kinds = ", ".join(f"{by_kind.count(kind)} {kind}" for kind in dict.fromkeys(by_kind)) or "no transition"
    short = f", {found.num_short} shots too short" if found.num_short else ""
    out.print(f"{len(found.clips)} clips{short}; {kinds}; {num_kept} of {num_frames} frames are in a clip")


def _check_targets(targets: dict[str, str | None]) -> None:
    """A folder that is missing, or a picture format that is not known, is told before the video is decoded."""
    for option, target in targets.items():
        if target is None:
            continue
        if not (folder := Path(target).parent).is_dir():
            raise ValueError(f"--{option} {target}: there is no folder {folder}")
        if option == "strip" and Path(target).suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
            raise ValueError(f"--strip {target}: expected a name that ends in .png, .jpg or .webp")
