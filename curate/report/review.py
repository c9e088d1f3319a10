"""The captions of clips, to be accepted, rejected and edited in the page: what review.js reads. Its export goes to
`reelpack caption DATASET --review FILE`."""

import json
import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.captions import LEVELS, text_id
from curate.report.cards import filmstrip, name_of, span_of
from curate.report.data import DatasetView
from curate.report.filmstrip import Strip


def captioned_clips(view: DatasetView) -> tuple[list[dict[str, Any]], list[list[str]]]:
    """Rows of the clips that have records, in order, and the reason codes of each one's captions."""
    codes: dict[str, list[str]] = defaultdict(list)
    for record in view.captions.select(["clip_id", "status", "findings"]).to_pylist():
        codes[record["clip_id"]] += [finding["code"] for finding in record["findings"] or ()]
    captioned = pa.array(view.captions["clip_id"].unique().to_pylist(), pa.string())
    rows = view.clips.filter(pc.is_in(view.clips["clip_id"], captioned)).to_pylist()
    return rows, [codes[row["clip_id"]] for row in rows]


def review(view: DatasetView, rows: Sequence[Mapping[str, Any]], strips: Mapping[str, Strip | str]) -> str:
    """The section: a film strip per clip, which review.js puts the texts beside; empty without captions."""
    if not rows:
        return ""
    # "<" could end the script element.
    data = json.dumps(review_data(view, rows), separators=(",", ":")).replace("<", "\\u003c")
    cards = "".join(
        f'<article class="judged" data-clip="{escape(row["clip_id"])}"><div>'
        f"{filmstrip(strips[row['clip_id']], row['clip_id'])}"
        f'<p class="facts">{name_of(row["video_uri"])} {span_of(row)}</p></div><div class="texts"></div></article>'
        for row in rows
    )
    return (
        '<div id="review"><noscript>Captions are judged by a script, which this browser does not run.</noscript>'
        f'{cards}</div><script type="application/json" id="review-data">{data}</script>'
    )


def review_data(view: DatasetView, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The texts of these clips, and how many clips have captions."""
    shown = pa.array([row["clip_id"] for row in rows], pa.string())
    texts = texts_of(view.captions.filter(pc.is_in(view.captions["clip_id"], shown)))
    return {
        "dataset": view.url,
        "command": shlex.join(["reelpack", "caption", view.url, "--review", "review.jsonl"]),
        "total": len(view.captions["clip_id"].unique()),
        "clips": {row["clip_id"]: texts.get(row["clip_id"], []) for row in rows},
    }


def texts_of(records: pa.Table) -> dict[str, list[dict[str, Any]]]:
    """What review.js reads of caption records: clip id → its texts, by level and variant."""
    texts: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in sorted(records.to_pylist(), key=lambda record: (LEVELS.index(record["level"]), record["variant"])):
        texts[record["clip_id"]].append(_text(record))
    return texts


def _text(record: Mapping[str, Any]) -> dict[str, Any]:
    findings = [{name: one[name] for name in ("code", "status", "detail")} for one in record["findings"] or ()]
    shown = {name: record[name] for name in ("level", "variant", "text", "status")}
    by = (record["provenance"] or {}).get("model")
    return {**shown, "text_id": text_id(record["clip_id"], record["level"], record["text"]), "by": by} | {
        "findings": findings
    }
