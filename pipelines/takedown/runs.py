"""Which trainings read a dataset: their records name it."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from curate.storage.lease import owners
from curate.storage.place import AnyPath, is_url, path_of
from pipelines.inputs.sources import absolute

RECORDS = ("run.json", "config.json", "config.yaml")
"""Of a run of `train`, of what `train-export` makes of one, and of a run of any other training."""
DEPTH = 3
"""Folders below each other that are looked into."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """A run, or an exported model, of a dataset: its folder, how many of its clips it trained on, and whether it
    trains now."""

    folder: str
    train_clips: int | None
    is_running: bool


def runs_of(dataset: str, folders: Iterable[str]) -> list[Trained]:
    """Runs whose record names a dataset, in these folders and up to `DEPTH` below. A record with a relative path,
    which another folder may mean otherwise, counts by the last name of it."""
    found: dict[str, Trained] = {}
    for folder in folders:
        for run in _below(path_of(absolute(folder)), DEPTH):
            for part in _datasets(run):
                if _is_same(str(part.get("url", "")), dataset):
                    is_running = bool(owners(str(run)))
                    found[str(run)] = Trained(
                        folder=str(run), train_clips=part.get("train_clips"), is_running=is_running
                    )
    return [found[name] for name in sorted(found)]


def _is_same(url: str, dataset: str) -> bool:
    url, ours = url.rstrip("/"), absolute(dataset)
    is_absolute = is_url(url) or Path(url).is_absolute()
    return url == ours if is_absolute else url.rpartition("/")[2] == ours.rpartition("/")[2]


def _below(folder: AnyPath, depth: int) -> Iterator[AnyPath]:
    yield folder
    if depth == 0:
        return
    try:
        entries = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError:
        return
    for entry in entries:
        if entry.name not in ("checkpoints", "samples", "tensorboard", "shards", "tables"):
            yield from _below(entry, depth - 1)


def _datasets(run: AnyPath) -> list[dict[str, Any]]:
    for name in RECORDS:
        try:
            text = (run / name).read_text()
            record = json.loads(text) if name.endswith(".json") else yaml.safe_load(text)
        except (OSError, ValueError, yaml.YAMLError):
            continue
        if isinstance(record, dict) and isinstance(record.get("datasets"), list):
            return [part for part in record["datasets"] if isinstance(part, dict)]
    return []
