"""The parts of the page that show training runs: curves from metrics.jsonl, samples as embedded videos."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from fsspec.core import url_to_fs

from curate.media.decode import decode_clip
from curate.report.cards import film
from curate.report.charts import Series, curves, number, smoothed, thinned
from curate.report.data import read_lines
from curate.report.film import NUM_FRAMES, data_uri, strip_of_frames
from curate.schema import MediaError

MAX_SAMPLES = 24
LARGE = (700, 340)
CHARTS = (("loss", "training loss"), ("lr", "learning rate"), ("grad_norm", "gradient norm"))
CHARTS_OF_SPEED = (("tokens_per_s", "tokens per second"), ("token_efficiency", "share of real tokens"))


def training(run: str) -> str:
    """Figures and curves of one run; says so where it has logged nothing yet."""
    rows = read_lines(f"{run}/metrics.jsonl")
    steps = [row for row in rows if row.get("loss") is not None]
    if not steps:
        return f'<p class="muted">{escape(run)} has no metrics.jsonl with a logged step yet.</p>'
    val = _points(rows, "val_loss")
    figures = [_loss_figure(steps, val)]
    for key, title in (*CHARTS[1:], *CHARTS_OF_SPEED):
        points = thinned(_points(steps, key))
        if len(points) > 1:
            chart = curves([Series(name=title, css="train", points=points)])
            figures.append(f"<figure><figcaption><b>{title}</b></figcaption>{chart}</figure>")
    return (
        f'<dl class="tiles">{_tiles(steps, val)}{_caption_tile(rows)}</dl><div class="charts">{"".join(figures)}</div>'
    )


def samples(run: str) -> str:
    """The run's generated videos and pictures with their prompts; empty without any."""
    fs, path = url_to_fs(f"{run}/samples")
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


def _tiles(steps: Sequence[Mapping[str, Any]], val: Sequence[tuple[float, float]]) -> str:
    loss = [y for _, y in _points(steps, "loss")]
    edge = max(1, min(10, len(loss) // 2))
    tiles = [("steps", number(steps[-1]["step"]))]
    tiles.append(("training loss", f"{number(_mean(loss[:edge]))} → {number(_mean(loss[-edge:]))}"))
    if val:
        tiles.append(("validation loss", f"{number(val[0][1])} → {number(val[-1][1])}"))
    for key, title, of in (("tokens_per_s", "tokens per second", _mean), ("token_efficiency", "real tokens", _mean)):
        values = [y for _, y in _points(steps, key)]
        if values:
            shown = f"{100 * of(values):.1f} %" if key == "token_efficiency" else number(of(values))
            tiles.append((title, shown))
    return "".join(f"<div><dt>{escape(name)}</dt><dd>{value}</dd></div>" for name, value in tiles)


def _caption_tile(rows: Sequence[Mapping[str, Any]]) -> str:
    """Whether the model listens: the same noise on training clips under their own and under each other's captions."""
    pairs = [row for row in rows if row.get("caption_loss_true") is not None]
    if not pairs:
        return ""
    true, shuffled = (f"{pairs[-1][f'caption_loss_{kind}']:.4f}" for kind in ("true", "shuffled"))
    return f"<div><dt>loss under true / shuffled captions</dt><dd>{true} / {shuffled}</dd></div>"


def _sample(payload: bytes, prompt: str, *, is_video: bool) -> str:
    text = escape(prompt)
    try:
        rgb = decode_clip(payload, num_frames=NUM_FRAMES).rgb
    except MediaError as error:
        return f'<article class="clip">{film(f"not playable: {error}", prompt)}<p class="caption">{text}</p></article>'
    if not is_video:
        return f'<article class="clip">{film(strip_of_frames(rgb), prompt)}<p class="caption">{text}</p></article>'
    poster = strip_of_frames(rgb[len(rgb) // 2 :][:1]).uri
    source = f'src="{data_uri("video/mp4", payload)}" poster="{poster}"'
    video = f"<video autoplay loop muted playsinline title='click to stop or go on' {source}></video>"
    frames = film(strip_of_frames(rgb), prompt, with_screen=False)
    return f'<article class="clip sample">{video}{frames}<p class="caption">{text}</p></article>'


def _prompt(fs: Any, sample: str) -> str:
    """The prompt recorded beside a sample; the file's name where none is."""
    stem = sample.rpartition(".")[0]
    if fs.exists(f"{stem}.json"):
        prompt = json.loads(fs.cat_file(f"{stem}.json")).get("prompt")
        if prompt:
            return str(prompt)
    return stem.rpartition("/")[2]


def _points(rows: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    return [(float(row["step"]), float(row[key])) for row in rows if row.get(key) is not None]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
