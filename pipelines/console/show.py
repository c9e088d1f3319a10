"""What the commands say that look into a dataset, at a machine, or ahead."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from curate.schema import said_of
from pipelines.console.summary import add_funnel, out, plain_table, show_failures, show_next

if TYPE_CHECKING:
    from pipelines.estimate.plan_curation import CurationPlan, Estimate
    from pipelines.inspection.doctor import Finding
    from pipelines.inspection.explain import Explanation, FileStory, Measure
    from pipelines.inspection.status import Status
    from pipelines.inspection.vacuum import Orphan
    from pipelines.inspection.verify import Check

MAX_PROBLEMS = 40


def show_status(status: "Status") -> None:
    table = plain_table()
    known = sum(status.inputs.values())
    table.add_row("inputs", str(known) if status.num_inputs is None else f"{known} of {status.num_inputs}")
    names = {"ok": "scanned"}
    for name, count in sorted(status.inputs.items(), key=lambda pair: pair[0] != "ok"):
        table.add_row(f"  {names.get(name, f'failed: {name}')}", str(count))
    for family, count in status.scored.items():
        table.add_row(f"scored by {family}", f"{count} of {status.funnel['clips']}")
    add_funnel(table, status.funnel)
    num_kept = status.funnel.get("keep", 0)
    table.add_row("cut", f"{status.num_cut} of {num_kept}")
    for family, count in status.captioned.items():
        table.add_row(f"captioned by {family}", f"{count} of {status.num_cut}")
        for state, captions in sorted(status.captions[family].items(), key=lambda pair: -pair[1]):
            table.add_row(f"  captions {state}", str(captions))
    for fingerprint, count in status.encoded.items():
        table.add_row(f"latents {fingerprint}", f"{count} of {status.num_cut}")
    idle = "" if status.idle_s is None else f"; the tables last grew {_duration(status.idle_s)} ago"
    out.print(f"{'a run is under way, or was stopped' if status.is_running else 'no run is under way'}{idle}")
    for writer in status.writers:
        out.print(f"writes here: {writer}", markup=False)
    out.print(table)
    if status.failures:
        show_failures(status.failures)
    if status.caption_note:
        out.print(f"the captions are by {status.caption_note}", markup=False)
    show_next(status)


def status_json(status: "Status") -> str:
    return json.dumps(asdict(status))


def show_explanation(story: "Explanation") -> None:
    clip = story.clip
    out.print(_facts(story))
    table = Table("measured", "value", "policy", "margin", "", "by", box=None, pad_edge=False)
    for one in story.measures:
        margin = "" if one.margin is None else f"{one.margin:+.4g}"
        table.add_row(one.name, escape(_value(one.value)), escape(_sides(one)), margin, one.verdict, one.family)
    out.print(table)
    for record in story.captions:
        how = f"{record['kind']} caption ({record['status']}) by {record['model']}, prompt {record['prompt_id']}"
        times = ", ".join(f"{time:.2f}" for time in record["frame_times_s"])
        text = record["text"] or f"no text: {record['reason']}"
        out.print(f"{how}, frames at {times} s: {text}", markup=False)
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
    for fingerprint, row in story.latents.items():
        grid = "x".join(str(row[f"latent_{axis}"]) for axis in "cthw")
        place = f"{row['shard']} from {row['offset']}" if row["shard"] else "not stored"
        add("latents", f"{fingerprint}: {grid}, {row['num_tokens']} tokens, {place}")
    _add_group(add, story)
    return facts


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


def _sides(one: "Measure") -> str:
    """The rule in short: `≥ 0.06 and ≤ 0.97`, `in CC0, CC-BY`."""
    signs = {"min": "≥", "max": "≤", "in": "in", "not_in": "not in"}
    sides = one.rule.sides if one.rule else {}
    texts = {
        side: ", ".join(map(str, bound)) if isinstance(bound, list) else f"{bound:g}" for side, bound in sides.items()
    }
    return " and ".join(f"{signs[side]} {text}" for side, text in texts.items())


def _failure(row: Mapping[str, Any]) -> str:
    attempts = f"{row['attempts']} attempt{'' if row['attempts'] == 1 else 's'}"
    return f"{row['step']}: {row['kind']}: {row['detail']} ({attempts}; {row['retry_command']})"


def show_file(story: "FileStory") -> None:
    from pipelines.inspection.explain import time_code

    video = story.video
    state = "scanned"
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


def show_checks(checks: "Iterable[Check]") -> int:
    """Each check as it is done; returns the number of problems."""
    num_problems = 0
    for check in checks:
        skipped = f", {check.num_skipped} out of reach" if check.num_skipped else ""
        verdict = f"{len(check.problems)} problems" if check.problems else "ok"
        out.print(f"{check.what}: {check.num_checked} compared{skipped}: {verdict}", markup=False)
        for problem in check.problems[:MAX_PROBLEMS]:
            out.print(f"  {problem}", markup=False)
        if len(check.problems) > MAX_PROBLEMS:
            out.print(f"  … and {len(check.problems) - MAX_PROBLEMS} more")
        num_problems += len(check.problems)
    return num_problems


def show_findings(findings: "Iterable[Finding]") -> bool:
    """Each finding as it is made; returns whether nothing failed."""
    colors = {"ok": "green", "warn": "yellow", "fail": "bold red"}
    is_well = True
    for one in findings:
        verdict = f"[{colors[one.verdict]}]{one.verdict:<4}[/]"
        out.print(f"{verdict}  {escape(one.where):<8}  {one.what:<15}  {escape(one.detail)}")
        is_well &= one.verdict != "fail"
    return is_well


def show_plan(plan: "CurationPlan") -> None:
    table = Table("", "", "90 % interval", box=None, pad_edge=False)
    unreadable = f", {plan.num_unreadable} of them unreadable" if plan.num_unreadable else ""
    table.add_row("files", str(plan.num_files), f"{plan.num_probed} probed{unreadable}")
    table.add_row("excerpts run", str(plan.num_excerpts))
    _add(table, "video", plan.video_s, _duration)
    for step, seconds in plan.step_s.items():
        _add(table, f"{step}, one worker", seconds, _duration)
    _add(table, f"all, {plan.num_workers} workers", plan.total_s, _duration)
    _add(table, "clips", plan.clips, lambda count: f"{count:,.0f}")
    _add(table, "  kept", plan.kept, lambda count: f"{count:,.0f}")
    _add(table, "shards", plan.shard_bytes, _size)
    out.print(table)
    if plan.num_excerpts == 1:
        out.print("one excerpt has no error bar: --sample 8 or more, and several files, give one")
    for sentence in plan.unknown:
        out.print(f"not in it: {sentence}")


def _add(table: Table, name: str, estimate: "Estimate", text: Any) -> None:
    table.add_row(name, text(estimate.value), f"{text(estimate.low)} – {text(estimate.high)}")


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:,.4g} h"


def show_orphans(found: Sequence["Orphan"], *, deleted: bool) -> None:
    table = Table("file", "size", "age", "why", "", box=None, pad_edge=False)
    for one in found:
        age = "" if one.age_s is None else _duration(one.age_s)
        table.add_row(escape(one.path), _size(one.num_bytes), age, one.why, "" if one.is_old else "kept: too recent")
    if found:
        out.print(table)
    going = [one for one in found if one.is_old]
    size = _size(sum(one.num_bytes for one in going))
    if deleted:
        out.print(f"{len(going)} files removed, {size}")
    elif going:
        out.print(f"{len(going)} files can go, {size}: --delete removes them")
    else:
        out.print("nothing to remove")


def _size(num_bytes: float) -> str:
    return f"{num_bytes / 2**20:.3g} MiB" if num_bytes < 2**30 else f"{num_bytes / 2**30:,.4g} GiB"
