"""`build_autoencoder_report`: the training of a video autoencoder as one self-contained page, also while it trains."""

import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import yaml
from PIL import Image

from curate.report.charts import Series, curves, number, smoothed, thinned
from curate.report.data import read_lines
from curate.report.filmstrip import data_uri
from curate.report.page import page, section
from curate.storage.place import locate
from curate.storage.publish import write_text

LARGE = (700, 340)
NUM_CURVE_POINTS = 50
"""Points of the thick curve of a figure of steps: each is a mean over the steps before it."""
OF_STEPS = {
    "psnr_db": "PSNR of batches, dB",
    "kl": "KL divergence",
    "code_usage": "codes used by a batch, share",
    "perplexity": "perplexity of the codes",
    "commitment": "distance to the codes",
    "adversary_loss": "loss of the adversary",
    "real_logit": "the adversary's logit of videos",
    "fake_logit": "the adversary's logit of reconstructions",
    "grad_norm": "gradient norm",
    "lr": "learning rate",
}
TITLES = {
    "psnr_db": "PSNR, dB",
    "worst_psnr_db": "PSNR of the worst clip, dB",
    "ssim": "SSIM",
    "flicker": "flicker, of 255",
    "code_usage": "codes used, share",
    "perplexity": "perplexity of the codes",
    "lpips": "LPIPS",
}
"""Of held-out figures; others have their names."""
MAX_PICTURES = 4
JPEG_QUALITY = 90


def build_autoencoder_report(run: str) -> str:
    """Write RUN/report.html: loss, held-out figures and reconstructions over steps, and the settings.

    Args:
        run: folder of the run, a local path or an fsspec URL. What it has not logged yet is left out.

    Returns:
        Path or URL of the page.
    """
    run = run.rstrip("/")
    rows = read_lines(f"{run}/metrics.jsonl")
    config = _read(f"{run}/config.yaml")
    settings = yaml.safe_load(config).get("train_autoencoder", {}) if config else {}
    sections = [
        section("training", "Training", "Training", _training([row for row in rows if "loss" in row])),
        section("held-out", "Held out", "Held-out clips, averaged weights", _held_out(rows)),
        section("pictures", "Reconstructions", "Held-out clips: source, reconstruction, error × 4", _pictures(run)),
        section("settings", "Settings", "Settings", f"<pre>{escape(config)}</pre>" if config else ""),
    ]
    facts = {
        "run": run,
        "steps": settings.get("steps"),
        **_network(settings),
        "weights": f"{run}/weights" if _read(f"{run}/weights/config.json") else "after the last step",
    }
    known = {name: value for name, value in facts.items() if value is not None}
    summary = "A causal video autoencoder."
    text = page(run.rpartition("/")[2], summary, known, sections, styles=("report.css",), scripts=("report.js",))
    path = f"{run}/report.html"
    write_text(path, text)
    return path


def _network(settings: Mapping[str, Any]) -> dict[str, Any]:
    if settings.get("temporal_decoder"):
        base = settings["temporal_decoder"]["base"]
        return {"temporal layers for": base.get("path") or "the embedded autoencoder"}
    if settings.get("super_resolution"):
        base = settings["super_resolution"]["base"]
        factor = settings["super_resolution"]["factor"]
        return {f"{factor} times the size for": base.get("path") or "the embedded autoencoder"}
    network = settings.get("network")
    if not network:
        return {}
    position = f"{network['spatial_stride']} × {network['temporal_stride']}"
    return {"bottleneck": network["bottleneck"]["kind"], "pixels × frames of a position": position}


def _training(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return '<p class="muted">No step is logged yet.</p>'
    figures = [_figure("loss of the reconstruction", _points(rows, "loss"), LARGE)]
    figures += [_figure(title, points) for name, title in OF_STEPS.items() if len(points := _points(rows, name)) > 1]
    seconds = sum(row["seconds"] for row in rows)
    tiles = {
        "steps": number(rows[-1]["step"]),
        "loss": f"{number(rows[0]['loss'])} → {number(rows[-1]['loss'])}",
        "frames per second": number(sum(row["frames"] for row in rows) / seconds),
    }
    return _tiles(tiles) + f'<div class="charts">{"".join(figures)}</div>'


def _held_out(rows: Sequence[Mapping[str, Any]]) -> str:
    measured = [{"step": row["step"], **row["held_out"]} for row in rows if "held_out" in row]
    if not measured:
        return ""
    names = [name for name, value in measured[-1].items() if name != "step" and isinstance(value, int | float)]
    tiles = {TITLES.get(name, name): f"{measured[-1][name]:.4g}" for name in names}
    figures = ""
    for name in names:
        points = _points(measured, name)
        if len(points) > 1:
            chart = curves([Series(name=TITLES.get(name, name), css="val", points=points)])
            figures += f"<figure><figcaption><b>{escape(TITLES.get(name, name))}</b></figcaption>{chart}</figure>"
    return _tiles(tiles) + f'<div class="charts">{figures}</div>'


def _pictures(run: str) -> str:
    """The newest of the pictures in RUN/samples, the first, and some between."""
    fs, path = locate(f"{run}/samples")
    names = sorted(name for name in (fs.ls(path, detail=False) if fs.isdir(path) else ()) if name.endswith(".png"))
    chosen = sorted({round(i * (len(names) - 1) / (MAX_PICTURES - 1)) for i in range(MAX_PICTURES)}) if names else []
    figures = ""
    for name in reversed([names[index] for index in chosen]):
        step = int(name.rpartition("-")[2].removesuffix(".png"))
        buffer = io.BytesIO()
        Image.open(io.BytesIO(fs.cat_file(name))).save(buffer, "JPEG", quality=JPEG_QUALITY)
        shown = f'<img src="{data_uri("image/jpeg", buffer.getvalue())}" alt="step {step}" style="max-width: 100%">'
        figures += f"<figure><figcaption>step {number(step)}</figcaption>{shown}</figure>"
    return figures and f'<div class="charts">{figures}</div>'


def _figure(title: str, points: Sequence[tuple[float, float]], size: tuple[int, int] | None = None) -> str:
    window = max(1, len(points) // NUM_CURVE_POINTS)
    series = [Series(name=title, css="raw" if window > 1 else "train", points=thinned(points))]
    if window > 1:
        series.append(Series(name=f"mean of {window}", css="train", points=thinned(smoothed(points, window))))
    chart = curves(series) if size is None else curves(series, size)
    css = "" if size is None else ' class="large"'
    return f"<figure{css}><figcaption><b>{escape(title)}</b></figcaption>{chart}</figure>"


def _points(rows: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    return [(float(row["step"]), float(row[key])) for row in rows if row.get(key) is not None]


def _tiles(tiles: Mapping[str, str]) -> str:
    cells = (f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in tiles.items())
    return f'<dl class="tiles">{"".join(cells)}</dl>'


def _read(path: str) -> str:
    fs, name = locate(path)
    return fs.cat_file(name).decode() if fs.exists(name) else ""
