"""The part of the page that shows which captions a run trains on: shares of the levels, and tokens of their texts."""

import json
from collections.abc import Mapping
from html import escape
from typing import Any

from curate.report.charts import Bin, bars, number
from curate.storage.place import locate


def blend(run: str) -> str:
    """Planned and drawn shares of a run's levels of captions, and a histogram of tokens for each; empty where the run
    keeps none (RUN/blend.json)."""
    fs, path = locate(f"{run}/blend.json")
    found = json.loads(fs.cat_file(path)) if fs.exists(path) else {"levels": []}
    if not found["levels"]:
        return ""
    if not any(level["num_texts"] for level in found["levels"]):
        return '<p class="muted">No clip has a caption: every sample is trained under the null caption.</p>'
    shares = "".join(_share(level) for level in found["levels"])
    figures = "".join(_figure(level, found) for level in found["levels"] if level["num_texts"])
    captioned, dropped, without = (_percent(found[name]) for name in ("captioned", "dropped", "uncaptioned"))
    return (
        f"<p>{captioned} of the samples are trained under a caption. The caption of {dropped} is dropped, and the "
        f"clips of {without} have none of the blend{_kinds(found)}. Shares of levels are of the captioned samples, by "
        f"{found['num_samples']:,} samples of the first epoch.</p>"
        f'<div class="bars">{shares}</div><div class="charts">{figures}</div>'
    )


def _kinds(found: Mapping[str, Any]) -> str:
    """Clips with a caption by kind; nothing in a run of an earlier version."""
    told = (
        f"{captioned:,} of {count:,} {kind}s have one" for kind, (captioned, count) in found.get("clips", {}).items()
    )
    return "".join(f"; {one}" for one in told)


def _share(level: Mapping[str, Any]) -> str:
    note = f"expected {_percent(level['expected'])}, weight {level['weight']:.0%}"
    return (
        f'<div class="bar"><span class="label">{escape(level["level"])}</span><span class="track"><i class="kept" '
        f'style="width:{100 * level["drawn"]:.2f}%"></i></span><b>{_percent(level["drawn"])}</b>'
        f'<span class="muted">{note}</span></div>'
    )


def _figure(level: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    edges = found["edges"]
    names = [f"{low + 1} to {high} tokens" for low, high in zip((0, *edges), edges, strict=False)]
    names.append(f"over {edges[-1]} tokens")
    ends = [*map(number, edges), f"> {number(edges[-1])}"]
    bins = [Bin(name=name, end=end, count=n) for name, end, n in zip(names, ends, level["tokens"], strict=True)]
    cut = f", {level['num_cut']:,} cut off at {found['max_tokens']}" if level["num_cut"] else ""
    caption = f'<b>{escape(level["level"])}</b> <span class="muted">{level["num_texts"]:,} texts by tokens{cut}</span>'
    shown = bins if level["tokens"][-1] else bins[:-1]
    label = f"texts of level {level['level']} by tokens"
    return f"<figure><figcaption>{caption}</figcaption>{bars(shown, label)}</figure>"


def _percent(share: float) -> str:
    return f"{share:.1%}"
