"""`build_captioner_report`: a captioner's training as one self-contained page, also while it trains."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from curate.report.charts import Series, curves, smoothed, thinned
from curate.report.data import read_lines
from curate.report.page import page, section
from curate.storage.publish import write_text

SMOOTHED = 10
"""Steps that a point of the thick curve is the mean of."""
COLUMNS = ("stage", "when", "task", "clips", "loss", "other clip's frames", "black frames", "own frames likelier")


def build_captioner_report(out: str) -> str:
    """Write OUT/report.html: the loss of each stage, and grounding before and after it.

    Returns:
        Path of the page.
    """
    rows = read_lines(f"{out}/metrics.jsonl")
    stages = list(dict.fromkeys(row["stage"] for row in rows))
    losses = "".join(_figure(stage, [row for row in rows if row["stage"] == stage]) for stage in stages)
    sections = [
        section("losses", "Losses", "Loss of the answers, nats per token", losses),
        section("grounding", "Grounding", "Grounding on held-out clips", _table(row for row in rows if "when" in row)),
    ]
    summary = "A captioner, stage by stage."
    text = page(out.rstrip("/").rpartition("/")[2], summary, {"stages": ", ".join(stages)}, sections,
                styles=("report.css",), scripts=())  # fmt: skip
    path = f"{out}/report.html"
    write_text(path, text)
    return path


def _figure(stage: str, rows: Sequence[Mapping[str, Any]]) -> str:
    points = [(float(row["step"]), float(row["loss"])) for row in rows if "step" in row]
    if len(points) < 2:
        return ""
    series = [Series(name="loss", css="faint", points=thinned(points)),
              Series(name=f"mean of {SMOOTHED}", css="train", points=thinned(smoothed(points, SMOOTHED)))]  # fmt: skip
    return f"<figure><figcaption>{escape(stage)}</figcaption>{curves(series)}</figure>"


def _table(rows: Iterable[Mapping[str, Any]]) -> str:
    """The rows of grounding; gaps say how much less likely an answer is with other frames."""
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in grounding_cells(row)) + "</tr>" for row in rows
    )
    note = (
        "<p>How much less likely the answers are, in nats per token, with another clip's frames and with black ones. "
        "Near 0 the captioner does not look at the clips, however low its loss.</p>"
    )
    head = "".join(f"<th>{name}</th>" for name in COLUMNS)
    return f"{note}<table><tr>{head}</tr>{body}</table>" if body else ""


def grounding_cells(row: Mapping[str, Any]) -> list[str]:
    """A row of grounding, as `COLUMNS` has it."""
    other = row["gap_other"]
    return [
        *(str(row[name]) for name in ("stage", "when", "task", "num")),
        f"{row['loss']:.3f}",
        "" if other is None else f"{other:+.3f}",
        f"{row['gap_black']:+.3f}",
        "" if other is None else f"{row['wins']} of {row['num_compared']}",
    ]
