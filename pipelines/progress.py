"""What the user sees while a step runs: a bar with rate and remaining time, and the outcomes so far."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from curate.schema import Failure

Item = TypeVar("Item")

console = Console(stderr=True)
"""Progress and messages go to stderr; stdout is for results."""


class RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.3g}/s" if speed else "–/s", style="dim")


def bar() -> Progress:
    return Progress(
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


def track(items: Iterable[Item], total: int, description: str) -> Iterator[Item]:
    """Pass items through under a progress bar; where stderr is no terminal, a line every ten seconds. Of items with
    their outcomes, as executors yield them, those that failed are counted."""
    if not console.is_terminal:
        yield from _log(items, total, description)
        return
    num_failed = 0
    with bar() as progress:
        task = progress.add_task(description, total=total, note="")
        for item in items:
            yield item
            if _is_failure(item):
                num_failed += 1
                progress.update(task, note=f"{num_failed} failed")
            progress.advance(task)


def _log(items: Iterable[Item], total: int, description: str) -> Iterator[Item]:
    start = last = time.monotonic()
    done = num_failed = 0
    for item in items:
        yield item
        done += 1
        num_failed += _is_failure(item)
        now = time.monotonic()
        if now - last >= 10:
            rate = done / (now - start)
            note = f", {num_failed} failed" if num_failed else ""
            console.print(f"{description}: {done}/{total}{note}, {rate:.3g}/s, {(total - done) / rate:.0f} s left")
            last = now
    if total:
        note = f", {num_failed} failed" if num_failed else ""
        console.print(f"{description}: {done}/{total}{note} in {time.monotonic() - start:.1f} s")


def _is_failure(item: object) -> bool:
    return isinstance(item, tuple) and bool(item) and isinstance(item[-1], Failure)
