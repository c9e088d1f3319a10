"""The Grafana board shows the metrics that reelpack has: each of them, and no other."""

import json
import re
from pathlib import Path
from typing import Any

from pipelines.monitor.metrics import METRICS

ROOT = Path(__file__).parents[2]
BOARD: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana" / "reelpack.json").read_text())
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
SHOWN = {f"{name}_total" if metric.kind == "counter" else name: metric for name, metric in METRICS.items()}


def test_the_board_shows_every_metric_and_no_other() -> None:
    named = {
        name for panel in PANELS for target in panel["targets"] for name in re.findall(r"reelpack_\w+", target["expr"])
    }
    assert named == SHOWN.keys()


def test_every_query_groups_by_labels_that_its_metrics_have() -> None:
    for expression in (target["expr"] for panel in PANELS for target in panel["targets"]):
        for part in expression.split(" / "):
            (name,) = re.findall(r"reelpack_\w+", part)
            (labels,) = re.findall(r"by \(([^)]*)\)", part)
            assert set(labels.split(", ")) <= set(SHOWN[name].labels), part
            assert ("rate(" in part or "increase(" in part) == (SHOWN[name].kind == "counter"), part


def test_metrics_are_named_as_prometheus_asks() -> None:
    for name, metric in METRICS.items():
        assert re.fullmatch(r"reelpack(_[a-z]+)+", name) and not name.endswith("_total") and metric.help
        assert metric.labels in (("step",), ("step", "outcome"), ("run",))


def test_panels_have_their_own_place_and_id() -> None:
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(ids)) == len(ids)
    cells = [
        (x, y)
        for panel in BOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells) and max(x for x, _ in cells) < 24


def test_the_documentation_lists_every_metric() -> None:
    text = (ROOT / "docs" / "cluster.md").read_text()
    assert [name for name in SHOWN if f"`{name}`" not in text] == []
