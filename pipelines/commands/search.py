"""`reelpack search`: the clips of a dataset that are nearest to a text, a picture or a clip."""

import json as json_lines
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from pipelines.commands.options import DatasetArgument
from pipelines.console.tables import out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.inspection.search import Hit


def search(
    dataset: DatasetArgument,
    text: Annotated[str | None, typer.Argument(help='what the clips show: "a dog on a beach"')] = None,
    like: Annotated[str | None, typer.Option(metavar="CLIP", help="clip id, or its beginning")] = None,
    image: Annotated[str | None, typer.Option(metavar="FILE", help="a picture")] = None,
    top: Annotated[int, typer.Option(min=1, help="number of clips")] = 20,
    decision: Annotated[
        Literal["keep", "reject", "pending", "failed", "all"],
        typer.Option(help="only clips that are kept, rejected, pending or failed; all: any"),
    ] = "keep",
    json: Annotated[bool, typer.Option("--json", help="one JSON object per line, for scripts")] = False,
) -> None:
    """Find the clips nearest to a text, a picture or a clip, by the embeddings that `curate` stored."""
    from pipelines.inspection.search import Query
    from pipelines.inspection.search import search as find

    hits = find(dataset, Query(text=text, picture=image, clip=like), count=top, decision=decision)
    if json:
        for hit in hits:
            typer.echo(json_lines.dumps(_row(hit), ensure_ascii=False))
    else:
        show(hits)


def show(hits: "Sequence[Hit]") -> None:
    from pipelines.inspection.explain import time_code

    table = Table("cosine", "clip", "decision", "video", "time", "caption", box=None, pad_edge=False)
    for hit in hits:
        clip = hit.clip
        name = clip["video_uri"].rpartition("/")[2]
        time = "image" if clip["kind"] == "image" else f"{time_code(clip['start_s'])} – {time_code(clip['end_s'])}"
        table.add_row(f"{hit.cosine:.4f}", clip["clip_id"], clip["decision"], name, time, hit.caption or "")
    out.print(table if hits else "no clip has an embedding")


def _row(hit: "Hit") -> dict[str, object]:
    names = ("clip_id", "decision", "video_uri", "kind", "start_s", "end_s")
    return {"cosine": round(hit.cosine, 5), **{name: hit.clip[name] for name in names}, "caption": hit.caption}
