"""The parts of the page that show training runs: curves from metrics.jsonl, samples as embedded videos."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from curate.media.decode import decode_clip
from curate.report.cards import filmstrip
from curate.report.charts import Series, curves, number, smoothed, thinned
from curate.report.data import read_lines
from curate.report.filmstrip import NUM_FRAMES, Strip, data_uri, strip_of_frames
from curate.schema import MediaError
from curate.storage.place import locate

MAX_SAMPLES, MAX_STEPS, MAX_SKIPPED = 24, 6, 20
GIVEN = ("start", "end", "video", "mask")
"""Files in the record of a sample, by the options of `reelpack sample`."""
LARGE = (700, 340)
CHARTS = (("loss", "training loss"), ("lr", "learning rate"), ("grad_norm", "gradient norm"))
CHARTS_OF_SPEED = (
    ("tokens_per_s", "tokens per second"),
    ("mfu", "MFU: model FLOPs over what the device can do"),
    ("token_efficiency", "share of real tokens"),
    ("memory_gib", "memory, GiB"),
)
SHARES = (("rank_idle_s", "ranks waiting for the slowest"), ("loader_wait_s", "waiting for the loader"))
NUM_COLORS = 9
"""Of the ramp in the style sheet."""


def training(run: str) -> str:
    """Figures and curves of one run; says so where it has logged nothing yet."""
    rows = read_lines(f"{run}/metrics.jsonl")
    steps = [row for row in rows if row.get("loss") is not None]
    if not steps:
        return f'<p class="muted">{escape(run)} has no metrics.jsonl with a logged step yet.</p>'
    val = _points(rows, "val_loss")
    figures = [_loss_figure(steps, val)]
    if by_timestep := _timestep_figure(rows):
        figures.append(by_timestep)
    for key, title in (*CHARTS[1:], *CHARTS_OF_SPEED):
        points = _points(steps, key)
        if len(points) > 1:
            chart = curves([_calm(title, points)])
            figures.append(f"<figure><figcaption><b>{title}</b></figcaption>{chart}</figure>")
    for key, title in SHARES:
        points = [(row["step"], row[key] / row["seconds"]) for row in steps if row.get(key) is not None]
        if any(share for _, share in points):
            chart = curves([_calm(title, points)])
            figures.append(f"<figure><figcaption><b>{title}</b>, share of a step</figcaption>{chart}</figure>")
    tiles = _tiles(rows, steps, val)
    for name, points in _evaluated(rows).items():
        title = escape(name.replace("_", " "))
        tiles += f"<div><dt>{title}</dt><dd>{points[-1][1]:.4g}</dd></div>"
        if len({value for _, value in points}) > 1:  # not counts that stay the same
            chart = curves([Series(name=title, css="val", points=points)])
            figures.append(f"<figure><figcaption><b>{title}</b></figcaption>{chart}</figure>")
    return f'<dl class="tiles">{tiles}</dl><div class="charts">{"".join(figures)}</div>'


def held_out(run: str) -> str:
    """The last validation of a run: loss by duration, resolution and timestep; empty where none was made."""
    rows = [row for row in read_lines(f"{run}/metrics.jsonl") if row.get("val_loss_ema_by_bin")]
    if not rows:
        return ""
    last = rows[-1]
    timesteps = list(last["val_loss_ema_by_timestep"])
    heads = "".join(f"<th>t = {escape(t)}</th>" for t in timesteps)
    lines = []
    for duration, cells in last["val_loss_ema_by_bin"].items():
        for resolution, losses in cells.items():
            clips = last["val_clips_by_bin"][duration][resolution]
            numbers = "".join(f"<td>{_loss(losses.get(t))}</td>" for t in timesteps)
            lines.append(f"<tr><td>{escape(duration)}</td><td>{escape(resolution)}</td><td>{clips}</td>{numbers}</tr>")
    for name, title in (("val_loss_ema", "all, averaged weights"), ("val_loss", "all, last weights")):
        numbers = "".join(f"<td>{_loss(last[f'{name}_by_timestep'].get(t))}</td>" for t in timesteps)
        lines.append(f"<tr><td>{title}</td><td></td><td></td>{numbers}</tr>")
    return (
        f"<p>At step {number(last['step'])}, under fixed noise. t = 0 is data, t = 1 is noise; by bin, the averaged "
        'weights.</p><div class="scroll"><table class="losses"><thead><tr><th>duration</th><th>resolution</th>'
        f"<th>clips</th>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def skipped(run: str) -> str:
    """Steps that were left out, with the clips that made them; empty without any."""
    rows = [row for row in read_lines(f"{run}/metrics.jsonl") if row.get("skipped")]
    lines = []
    for row in rows[:MAX_SKIPPED]:
        clips = ", ".join(f"<code>{escape(clip)}</code>" for clip in row.get("skipped_clips", ()))
        why = f"the loss of {clips} was no number" if clips else "the gradient was no number"
        lines.append(f"<li>step {number(row['step'])}: {why}</li>")
    more = f"<li>… and {len(rows) - MAX_SKIPPED} more</li>" if len(rows) > MAX_SKIPPED else ""
    return f"<ul>{''.join(lines)}{more}</ul>" if rows else ""


def previews(run: str) -> str:
    """What the run sampled while it trained: a row per held-out caption, step by step; empty without any."""
    fs, path = locate(f"{run}/samples")
    folders = sorted(name for name in (fs.ls(path, detail=False) if fs.isdir(path) else ()) if "/step-" in name)
    rows: dict[str, list[str]] = {}
    for folder in _evenly(folders, MAX_STEPS):
        step = int(folder.rpartition("-")[2])
        for name in sorted(name for name in fs.ls(folder, detail=False) if name.endswith((".mp4", ".png"))):
            strip = filmstrip(_strip(fs.cat_file(name)), f"step {step}")
            figure = f'<figure class="copy">{strip}<figcaption>step {number(step)}</figcaption></figure>'
            rows.setdefault(_prompt(fs, name), []).append(figure)
    return "".join(
        f'<div class="group large"><p>{escape(prompt)}</p><div class="copies">{"".join(figures)}</div></div>'
        for prompt, figures in list(rows.items())[:MAX_SAMPLES]
    )


def samples(run: str) -> str:
    """The run's generated videos and images with their prompts; empty without any."""
    fs, path = locate(f"{run}/samples")
    if not fs.isdir(path):
        return ""
    names = sorted(name for name in fs.ls(path, detail=False) if name.endswith((".mp4", ".png")))
    cards = [
        _sample(fs.cat_file(name), _prompt(fs, name), is_video=name.endswith(".mp4")) for name in names[:MAX_SAMPLES]
    ]
    more = f'<p class="muted">{MAX_SAMPLES} of {len(names)} shown</p>' if len(names) > MAX_SAMPLES else ""
    return f'{more}<div class="grid">{"".join(cards)}</div>' if cards else ""


def _loss_figure(steps: Sequence[Mapping[str, Any]], val: Sequence[tuple[float, float]]) -> str:
    loss = _points(steps, "loss")
    window = len(loss) // 25
    lines = [Series(name="training loss", css="raw" if window > 1 else "train", points=thinned(loss))]
    legend = f'<i class="key {lines[0].css}"></i>each step'
    if window > 1:
        lines.append(Series(name=f"mean of {window} steps", css="train", points=thinned(smoothed(loss, window))))
        legend += f' <i class="key train"></i>mean of {window}'
    if val:
        lines.append(Series(name="validation loss", css="val", points=val))
        legend += ' <i class="key val"></i>held-out clips'
    caption = f'<figcaption><b>loss</b> <span class="muted">{legend}</span></figcaption>'
    return f'<figure class="large">{caption}{curves(lines, LARGE)}</figure>'


def _calm(title: str, points: Sequence[tuple[float, float]]) -> Series:
    """A curve of means over a hundredth of the run."""
    return Series(name=title, css="train", points=thinned(smoothed(points, max(1, len(points) // 100))))


def _timestep_figure(rows: Sequence[Mapping[str, Any]]) -> str:
    """Held-out loss of the averaged weights at each timestep: what noise the model has learned to remove."""
    having = [row for row in rows if row.get("val_loss_ema_by_timestep")]
    if len(having) < 2:
        return ""
    timesteps = list(having[-1]["val_loss_ema_by_timestep"])
    lines, legend = [], ""
    for index, t in enumerate(timesteps):
        css = f"ramp-{round(index * (NUM_COLORS - 1) / max(1, len(timesteps) - 1))}"
        points = [(float(r["step"]), r["val_loss_ema_by_timestep"].get(t)) for r in having]
        lines.append(Series(name=f"t = {t}", css=css, points=[(x, float(y)) for x, y in points if y is not None]))
        legend += f'<i class="key {css}"></i>{escape(t)}'
    caption = f'<figcaption><b>held-out loss at t =</b> <span class="muted">{legend}</span></figcaption>'
    return f'<figure class="large">{caption}{curves(lines, LARGE)}</figure>'


def _tiles(
    rows: Sequence[Mapping[str, Any]], steps: Sequence[Mapping[str, Any]], val: Sequence[tuple[float, float]]
) -> str:
    loss = [y for _, y in _points(steps, "loss")]
    edge = max(1, min(10, len(loss) // 2))
    tiles = [("steps", number(steps[-1]["step"]))]
    tiles.append(("training loss", f"{number(_mean(loss[:edge]))} → {number(_mean(loss[-edge:]))}"))
    if val:
        tiles.append(("validation loss", f"{number(val[0][1])} → {number(val[-1][1])}"))
    shares = (("token_efficiency", "real tokens"), ("mfu", "MFU"))
    for key, title in (("tokens_per_s", "tokens per second"), *shares):
        if values := [y for _, y in _points(steps, key)]:
            shown = number(_mean(values)) if key == "tokens_per_s" else f"{100 * _mean(values):.1f} %"
            tiles.append((title, shown))
    if num_skipped := sum(bool(row.get("skipped")) for row in rows):
        tiles.append(("skipped steps", number(num_skipped)))
    return "".join(f"<div><dt>{escape(name)}</dt><dd>{value}</dd></div>" for name, value in tiles)


def _evaluated(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """What evaluators measured, by name: (step, value). The held-out loss is drawn with the training loss."""
    evaluations = [row for row in rows if "loss" not in row]
    names = dict.fromkeys(name for row in evaluations for name, value in row.items() if isinstance(value, int | float))
    return {name: _points(evaluations, name) for name in names if name not in ("step", "val_loss")}


def _strip(payload: bytes) -> Strip | str:
    try:
        return strip_of_frames(decode_clip(payload, num_frames=NUM_FRAMES).rgb)
    except MediaError as error:
        return f"not playable: {error}"


def _evenly(items: Sequence[str], limit: int) -> list[str]:
    """At most `limit` of them, the first and the last among them."""
    if len(items) <= limit:
        return list(items)
    return [items[round(i * (len(items) - 1) / (limit - 1))] for i in range(limit)]


def _loss(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _sample(payload: bytes, prompt: str, *, is_video: bool) -> str:
    text = escape(prompt)
    try:
        rgb = decode_clip(payload, num_frames=NUM_FRAMES).rgb
    except MediaError as error:
        frames = filmstrip(f"not playable: {error}", prompt)
        return f'<article class="clip">{frames}<p class="caption">{text}</p></article>'
    if not is_video:
        frames = filmstrip(strip_of_frames(rgb), prompt)
        return f'<article class="clip">{frames}<p class="caption">{text}</p></article>'
    poster = strip_of_frames(rgb[len(rgb) // 2 :][:1]).uri
    source = f'src="{data_uri("video/mp4", payload)}" poster="{poster}"'
    video = f"<video autoplay loop muted playsinline title='click to stop or resume' {source}></video>"
    frames = filmstrip(strip_of_frames(rgb), prompt, with_screen=False)
    return f'<article class="clip sample">{video}{frames}<p class="caption">{text}</p></article>'


def _prompt(fs: Any, sample: str) -> str:
    """The prompt recorded with a sample, and the files that it was given; the file's name where none is."""
    stem = sample.rpartition(".")[0]
    facts = json.loads(fs.cat_file(f"{stem}.json")) if fs.exists(f"{stem}.json") else {}
    files = [f"{name} {str(facts[name]).rpartition('/')[2]}" for name in GIVEN if facts.get(name)]
    return " · ".join([str(facts.get("prompt") or stem.rpartition("/")[2]), *files])


def _points(rows: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    return [(float(row["step"]), float(row[key])) for row in rows if row.get(key) is not None]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
