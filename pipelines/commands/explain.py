"""`reelpack explain`: everything that is known of one clip."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from curate.dataset.captions import reason_of, text_name
from curate.schema import said_of
from pipelines.commands.options import DatasetArgument
from pipelines.commands.without_pandas import WithoutPandas
from pipelines.console.tables import out, plain_table

if TYPE_CHECKING:
    from pipelines.inspection.explain import Explanation, FileStory


@WithoutPandas()
def explain(
    dataset: DatasetArgument,
    clip: Annotated[str, typer.Argument(help="clip id, or its beginning; or an input file, to list its clips")],
) -> None:
    """Everything that is known of one clip: values, thresholds, decision, source, copies, captions."""
    from pipelines.inspection import explain as explaining

    files = explaining.files_named(dataset, clip)
    for story in files:
        show_file(story)
    if not files and (taken := explaining.forgotten(dataset, clip)):
        out.print(taken, markup=False)
    elif not files:
        show_explanation(explaining.explain(dataset, clip))


def show_file(story: "FileStory") -> None:
    from pipelines.inspection.explain import time_code

    video = story.video
    state = f"scanned, shots by {story.detector}"
    if video["outcome"] != "ok":
        state = f"failed: {video['failure']}: {said_of(video['uri'], video['detail'])}"
    out.print(f"{video['uri']}: {state}", markup=False)
    if video["outcome"] != "ok":
        return
    table = Table("clip", "time", "decision", "", box=None, pad_edge=False)
    for clip in story.clips:
        span = f"{time_code(clip['start_s'])} – {time_code(clip['end_s'])}"
        table.add_row(clip["clip_id"], span, clip["decision"], ", ".join(clip["reasons"]))
    out.print(table if story.clips else "it has no clips")


def show_explanation(story: "Explanation") -> None:
    clip = story.clip
    out.print(_facts(story))
    table = Table("measured", "value", "policy", "margin", "", "by", box=None, pad_edge=False)
    for one in story.measures:
        margin = "" if one.margin is None else f"{one.margin:+.4g}"
        table.add_row(
            one.name,
            escape(_value(one.value)),
            escape(one.rule.said(one.relative) if one.rule else ""),
            margin,
            one.verdict,
            one.family,
        )
    out.print(table)
    for record in story.captions:
        model = (record["provenance"] or {}).get("model", "an earlier reelpack")
        name = text_name(record["level"], record["variant"])
        how = f"{name} caption ({record['status']}) by {model}, prompt {record['prompt_id']}"
        if record["earlier"]:
            how += f", attempt {record['attempt']}"
        if record["frame_times_s"]:
            how += f", frames at {', '.join(f'{time:.2f}' for time in record['frame_times_s'])} s"
        text = record["text"] or f"no text: {reason_of(record)}"
        out.print(f"{how}: {text}", markup=False)
        for attempt in record["earlier"] or ():
            out.print(f"  before: {attempt['text']} ({', '.join(attempt['codes'])})", markup=False)
    if story.captions and story.caption_note:
        out.print(f"the captions are by {story.caption_note}", markup=False)
    for row in story.failures:
        subject = "" if row["subject"] == clip["clip_id"] else f" of {row['subject']}"
        out.print(f"failed: {_failure(row)}{subject}", markup=False)


def _facts(story: "Explanation") -> Table:
    from pipelines.inspection.explain import time_code

    clip, video = story.clip, story.video
    facts = plain_table()
    facts.columns[1].justify = "left"

    def add(name: str, value: object) -> None:
        facts.add_row(name, escape(str(value)))

    add("clip", clip["clip_id"])
    add("decision", f"{clip['decision']} {', '.join(clip['reasons'])}".strip())
    add("split", clip["split"])
    for uri in story.uris:
        add("source", uri if uri == clip["video_uri"] else f"{uri} (the same bytes)")
    add(
        "time", f"{time_code(clip['start_s'])} – {time_code(clip['end_s'])}, clip {story.place[0]} of {story.place[1]}"
    )
    if clip.get("transition_before"):
        joined = f"; {clip['num_shots']} shots joined" if clip["num_shots"] > 1 else ""
        add("shot", f"{clip['shot']} of its file, {_edge(clip, 'before')}, {_edge(clip, 'after')}{joined}")
    add("exactly", f"pts {clip['start_pts']} – {clip['end_pts']} in units of {clip['time_base']} s")
    size = f"{clip['width']}x{clip['height']}, {clip['num_frames']} frames at {clip['fps']:.4g}/s"
    add("picture", f"{size}; {video['codec']} {video['pixel_format']} in {video['container']}")
    if (video["num_video_streams"] or 1) > 1:
        add("stream", f"video stream {video['video_stream']} of {video['num_video_streams']}, counted from 0")
    for note in video["notes"] or ():
        add("note", note)
    for name, value in story.own.items():
        add(name, value)
    if story.shard:
        add("shard", f"{story.shard['shard']}, {story.shard['size']} bytes from {story.shard['offset']}")
    for fingerprint, row in ((name, row) for name, rows in story.latents.items() for row in rows):
        grid = "x".join(str(row[f"latent_{axis}"]) for axis in "cthw")
        place = f"{row['shard']} from {row['offset']}" if row["shard"] else "not stored"
        add("latents", f"{fingerprint}: {_window(row)}{grid}, {row['num_tokens']} tokens, {place}")
    _add_group(add, story)
    return facts


def _edge(clip: Mapping[str, Any], side: str) -> str:
    num_left_out = clip[f"left_out_{side}"]
    return f"{side}: {clip[f'transition_{side}']}" + (f" ({num_left_out} frames left out)" if num_left_out else "")


def _add_group(add: Any, story: "Explanation") -> None:
    from curate.report.duplicates import why

    if not story.group:
        return
    add("copies", why(story.group))
    for row in story.group:
        this = ", this clip" if row["clip_id"] == story.clip["clip_id"] else ""
        add("", f"{row['clip_id']} ({row['decision']}{this}) {row['width']}x{row['height']} of {row['video_uri']}")


def _value(value: object) -> str:
    return "–" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value)


def _failure(row: Mapping[str, Any]) -> str:
    attempts = f"{row['attempts']} attempt{'' if row['attempts'] == 1 else 's'}"
    return f"{row['step']}: {row['kind']}: {row['detail']} ({attempts}; {row['retry_command']})"


def _window(row: Mapping[str, Any]) -> str:
    """Which frames of its clip a latent shows, where it does not show all of them."""
    start, count, of = row.get("start_frame"), row["num_frames"], row.get("clip_frames")
    return "" if start is None or count == of else f"frames {start} to {start + count - 1} of {of}, "
