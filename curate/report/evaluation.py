"""The part of a run's page that shows evaluations: figures with intervals, and samples, the worst first."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from curate.media.decode import decode_clip
from curate.report.cards import filmstrip
from curate.report.filmstrip import NUM_FRAMES, Strip, strip_of_frames
from curate.schema import MediaError
from curate.storage.place import folders, locate

logger = logging.getLogger(__name__)
MAX_EVALUATIONS, MAX_VIDEOS = 4, 24


def evaluation(run: str) -> str:
    """Figures of the last evaluations side by side, and the samples of the last one; empty without any."""
    found = _read(run)[-MAX_EVALUATIONS:]
    if not found:
        return ""
    heads = "".join(f"<th>{escape(_title(facts))}</th>" for _, facts in found)
    rows: dict[str, list[str]] = {}
    for number, (_, facts) in enumerate(found):
        for row in figure_rows(facts["figures"]):
            beside = "; ".join(filter(None, (row.interval, row.beside)))
            cell = f'<td>{row.value} <span class="muted">({escape(beside)})</span></td>'
            rows.setdefault(row.name, ["<td></td>"] * len(found))[number] = cell
    lines = "".join(f"<tr><td>{escape(name)}</td>{''.join(cells)}</tr>" for name, cells in rows.items())
    table = f'<table class="losses"><thead><tr><th></th>{heads}</tr></thead><tbody>{lines}</tbody></table>'
    folder, last = found[-1]
    figures = last["figures"]
    note = (
        f"<p>{figures['num_videos']} samples beside {figures['num_held_out']} held-out clips, and the nearest of "
        f"{figures['num_training']} training clips; intervals of {last['measured']['confidence']:.0%}.</p>"
    )
    videos = _videos(folder, figures["videos"][:MAX_VIDEOS], len(figures["videos"]))
    return f'{note}<div class="scroll">{table}</div>{videos}'


def _read(run: str) -> list[tuple[str, dict[str, Any]]]:
    """Folders of evaluations that have ended, and their facts: by step, then in the order in which they ended."""
    found = []
    for name in folders(f"{run}/evaluation"):
        fs, path = locate(f"{run}/evaluation/{name}/evaluate.json")
        if fs.exists(path):
            facts = _facts(path, fs.cat_file(path))
            if facts is None:
                continue
            found.append(((facts["step"], fs.modified(path)), f"{run}/evaluation/{name}", facts))
    return [(folder, facts) for _, folder, facts in sorted(found, key=lambda one: one[0])]


def _facts(path: str, data: bytes) -> dict[str, Any] | None:
    """Of an evaluate.json; None of another one, which is told."""
    try:
        facts: dict[str, Any] = json.loads(data)
        lacks = [name for name in ("step", "view", "sampling", "measured", "figures") if name not in facts]
        problem = f"it lacks {', '.join(lacks)}" if lacks or not isinstance(facts, dict) else None
    except (ValueError, TypeError) as error:
        problem = str(error)
    if problem is None:
        return facts
    logger.warning("%s is not shown: it is no evaluation (%s); evaluate again, or remove it", path, problem)
    return None


def _title(facts: Mapping[str, Any]) -> str:
    view, sampling = facts["view"], facts["sampling"]
    size = f"{view['num_frames']} × {view['width']}x{view['height']}"
    return f"step {facts['step']}, {size}, {sampling['sampler']['kind']} {sampling['num_steps']}"


@dataclass(frozen=True, kw_only=True, slots=True)
class FigureRow:
    """A figure of the samples, as text.

    Attributes:
        name: Of the figure.
        value: Of the samples.
        interval: Of confidence; "": there is none.
        beside: What clips have.
    """

    name: str
    value: str
    interval: str
    beside: str


def figure_rows(figures: Mapping[str, Any]) -> Iterator[FigureRow]:
    """The figures of an evaluate.json, in the order in which they are shown."""
    for name, one in figures["distances"].items():
        training = f"training clips {_number(one['training_frechet'])}, extrapolated {_number(one['infinity'])}"
        yield _row(name, one["frechet"], training)
        yield _row(f"{name} kernel", one["kernel"], f"training clips {_number(one['training_kernel'])}")
    for name, one in figures["consistency"].items():
        shuffled = f"shuffled {_number(one['shuffled'])} (p = {one['p_value']:.2g})"
        yield _row(name, one["own"], f"{shuffled}, clips {_number(one['held_out'])}")
    for name, one in figures["movement"].items():
        yield _row(name, one["generated"], f"clips {_number(one['held_out'])}")
    if near := figures["memorization"]:
        yield _row("nearest training clip", near["generated"], f"clips {_number(near['held_out'])}")
        yield FigureRow(
            name="nearer than 95 % of clips", value=f"{near['share']:.1%}", interval="", beside="clips 5 %"
        )


def _row(name: str, interval: Mapping[str, float], beside: str) -> FigureRow:
    ends = f"{_number(interval['low'])} – {_number(interval['high'])}"
    return FigureRow(name=name, value=_number(interval["value"]), interval=ends, beside=beside)


def _videos(folder: str, videos: Sequence[Mapping[str, Any]], total: int) -> str:
    fs, path = locate(folder)
    names = {name.rpartition("/")[2] for name in fs.ls(path, detail=False)}
    shown = []
    for video in videos:
        stem = f"{video['number']:05d}"
        name = next((f"{stem}{end}" for end in (".mp4", ".png") if f"{stem}{end}" in names), None)
        pictures = [] if name is None else [(fs.cat_file(f"{path}/{name}"), "sample")]
        if fs.exists(f"{path}/nearest/{stem}.mp4"):
            distance = _number(video["nearest_distance"]) + (", suspiciously near" if video["is_suspect"] else "")
            pictures.append((fs.cat_file(f"{path}/nearest/{stem}.mp4"), f"nearest training clip, at {distance}"))
        figures = "".join(
            f'<figure class="copy">{filmstrip(_strip(data), title)}<figcaption>{escape(title)}</figcaption></figure>'
            for data, title in pictures
        )
        matches = ", ".join(f"{escape(name)} {_number(value)}" for name, value in video["consistency"].items())
        prompt = escape(video["prompt"] or f"sample {video['number']}")
        shown.append(
            f'<div class="group large"><p>{prompt} <span class="muted">{matches}</span></p>'
            f'<div class="copies">{figures}</div></div>'
        )
    return f'<p class="muted">{len(videos)} of {total} samples, the worst first</p>{"".join(shown)}'


def _strip(payload: bytes) -> Strip | str:
    try:
        return strip_of_frames(decode_clip(payload, num_frames=NUM_FRAMES).rgb)
    except MediaError as error:
        return f"not playable: {error}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
