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
    """Pass items through under a progress bar; where stderr is no terminal, a line every ten seconds."""
    if not console.is_terminal:
        yield from _log(items, total, description)
        return
    with bar() as progress:
        task = progress.add_task(description, total=total, note="")
        for item in items:
            yield item
            progress.advance(task)


def _log(items: Iterable[Item], total: int, description: str) -> Iterator[Item]:
    start = last = time.monotonic()
    done = 0
    for item in items:
        yield item
        done += 1
        now = time.monotonic()
        if now - last >= 10:
            rate = done / (now - start)
            console.print(f"{description}: {done}/{total}, {rate:.3g}/s, {(total - done) / rate:.0f} s left")
            last = now
    if total:
        console.print(f"{description}: {done}/{total} in {time.monotonic() - start:.1f} s")
