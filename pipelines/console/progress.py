"""The progress line of a step: how much is done, how fast, and the time left."""

import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console
from rich.live import Live
from rich.text import Text

from curate.schema import Failure
from pipelines.console.pace import Pace

if TYPE_CHECKING:
    from curate.stage import Stage
    from pipelines.execute.base import Executor, Resources

Item = TypeVar("Item")

console = Console(stderr=True, emoji=False)
"""Progress and messages go to stderr; stdout is for results. `:cat:` is a part of a name, and stays."""

REDRAW_S = 0.25
NOTEBOOK_S = 1.0
"""Between two states of a line in a notebook."""
LOG_S = 30.0
"""Between two lines where stderr is no terminal."""
LEAST_BAR = 10
MOST_BAR = 40


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """What the amount of work is measured in.

    Attributes:
        name: As `curate.media.counter` counts it, of items that have no outcome yet; "" for items as a whole.
        plural: For people, behind a rate.
    """

    name: str
    plural: str


ITEMS = Unit(name="", plural="")
STEPS = Unit(name="", plural="steps")
CLIPS = Unit(name="", plural="clips")
BYTES = Unit(name="bytes", plural="MB")
SECONDS = Unit(name="seconds", plural="s of video")
FRAMES = Unit(name="frames", plural="frames")


class Line:
    """One step's line.

    Args:
        name: of the step.
        num_items: number of items.
        total: amount of work of all items, in `unit`.
        unit: of the amounts.
        pace: for tests, with another clock.
    """

    def __init__(self, name: str, num_items: int, total: float, unit: Unit = ITEMS, pace: Pace | None = None) -> None:
        self.name, self.num_items, self.unit = name, num_items, unit
        self.pace = pace or Pace(total)
        self.num_done = self.num_failed = 0
        self.finished = 0.0
        self.notes: tuple[str, ...] = ()

    def add(self, amount: float, *, is_failure: bool = False) -> None:
        """An item is done."""
        self.num_done += 1
        self.num_failed += is_failure
        self.finished += amount

    def expect(self, num_items: int) -> None:
        """From now on so many items, each of amount 1, are this line's: others do the rest, or left some."""
        self.num_items = num_items
        self.pace.total = num_items

    def update(self, under_way: Mapping[str, float]) -> None:
        """Update the amount done, including that of items without an outcome."""
        self.pace.reach(self.finished + under_way.get(self.unit.name, 0.0))

    def parts(self) -> list[str]:
        """The parts of the line, the most important first."""
        parts = [f"{self.num_done:,}/{self.num_items:,}"]
        if self.num_failed:
            parts.append(f"{self.num_failed:,} failed")
        if self.num_done == self.num_items:
            return [*parts, f"in {duration(self.pace.seconds)}", *self.notes]
        if (left_s := self.pace.left_s()) is not None:
            parts.append(f"{duration(left_s)} left")
        if rate := self.pace.rate():
            parts.append(_rate(rate, self.unit))
        return [*parts, *self.notes]

    def text(self, width: int) -> str:
        """The line in at most `width` columns; what does not fit is dropped, the least important part first."""
        share = self.pace.done / self.pace.total if self.pace.total else 1.0
        text = f"{self.name:<10}{_percent(share):>6}"
        for part in self.parts():
            if len(text) + 2 + len(part) > width:
                break
            text += f"  {part}"
        length = min(MOST_BAR, width - len(text) - 1)
        if length < LEAST_BAR:
            return text[:width]
        filled = int(length * share)
        bar = "━" * filled + "─" * (length - filled)
        return f"{self.name:<10} {bar}{text[10:]}"

    def summary(self) -> str:
        """The last line."""
        failed = f", {self.num_failed:,} failed" if self.num_failed else ""
        return f"{self.name}: {self.num_done:,}/{self.num_items:,}{failed} in {duration(self.pace.seconds)}"


def track(
    results: Iterable[Item],
    num_items: int,
    name: str,
    *,
    unit: Unit = ITEMS,
    total: float | None = None,
    amount: Callable[[Item], float] = lambda _: 1.0,
    under_way: Callable[[], Mapping[str, float]] = dict,
) -> Iterator[Item]:
    """Pass results through under a progress line; where stderr is no terminal, a line now and then. Of items with
    their outcomes, as executors yield them, those that failed are counted.

    Args:
        results: of the items, in any order.
        num_items: how many there will be.
        name: of the step.
        unit: that the amount of work is measured in.
        total: amount in all items; None: as many as there are.
        amount: that of one result.
        under_way: what is done by unit of items that have no result yet; asked now and then by another thread.
    """
    if not num_items:
        yield from results
        return
    line = Line(name, num_items, num_items if total is None else total, unit)
    with shown(line, lambda: line.update(under_way())):
        yield from counted(results, line, amount)


def counted(results: Iterable[Item], line: Line, amount: Callable[[Item], float] = lambda _: 1.0) -> Iterator[Item]:
    """Pass results through and add them to a line that is shown already."""
    for result in results:
        yield result
        line.add(amount(result), is_failure=_is_failure(result))


def tracked(
    executor: "Executor",
    stage: "Stage[Any, Any]",
    items: Sequence[Any],
    resources: "Resources",
    name: str,
    unit: Unit = ITEMS,
    amount: Callable[[Any], float] = lambda _: 1.0,
) -> Iterator[tuple[Any, Any]]:
    """Run a stage on an executor under a progress line; items with their outcomes. `amount` is that of an item."""
    return track(
        executor.run(stage, items, resources),
        len(items),
        name,
        unit=unit,
        total=sum(map(amount, items)),
        amount=lambda result: amount(result[0]),
        under_way=executor.under_way,
    )


@contextmanager
def shown(line: Line, update: Callable[[], None]) -> Iterator[None]:
    """Show a line while the block runs: redrawn on a terminal or in a notebook, else written every `LOG_S` seconds."""
    ended = threading.Event()
    if console.is_jupyter:
        draw = _drawn_in_notebook(line, update)
        drawing = _thread(ended, NOTEBOOK_S, draw)
        try:
            yield
        finally:
            ended.set()
            drawing.join()
            draw()
        return
    if not console.is_terminal:

        def write() -> None:
            update()
            _print(f"{line.name}: {', '.join(line.parts())}")

        log = _thread(ended, LOG_S, write)
        try:
            yield
        finally:
            ended.set()
            log.join()
            _print(line.summary())
        return
    # No terminal mode is changed and no input is read: a background process can keep drawing.
    with Live(console=console, auto_refresh=False) as live, _logs_above():

        def draw() -> None:
            update()
            live.update(Text(line.text(console.width - 1), no_wrap=True), refresh=True)

        draw()
        drawing = _thread(ended, REDRAW_S, draw)
        try:
            yield
        finally:
            ended.set()
            drawing.join()
            draw()


def _drawn_in_notebook(line: Line, update: Callable[[], None]) -> Callable[[], None]:
    """Show the line below a notebook's cell; returns what draws it again, in any thread."""
    from IPython.display import display

    def text() -> dict[str, str]:
        update()
        return {"text/plain": line.text(console.width)}

    handle = display(text(), raw=True, display_id=True)
    return lambda: handle.update(text(), raw=True)


def _thread(ended: threading.Event, every_s: float, work: Callable[[], Any]) -> threading.Thread:
    def run() -> None:
        while not ended.wait(every_s):
            work()

    thread = threading.Thread(target=run, name="progress", daemon=True)
    thread.start()
    return thread


@contextmanager
def _logs_above() -> Iterator[None]:
    """Log lines appear above the progress line: handlers on the terminal write to rich's replacement of it."""
    terminal, loggers = sys.__stderr__, [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    moved = [
        handler
        for logger in loggers
        if isinstance(logger, logging.Logger)
        for handler in logger.handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream is terminal
    ]
    for handler in moved:
        handler.setStream(sys.stderr)
    try:
        yield
    finally:
        for handler in moved:
            handler.setStream(terminal)


def duration(seconds: float) -> str:
    """In one or two units: 40 s, 3 min, 1 h 20 min, 2 d 3 h."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def _rate(rate: float, unit: Unit) -> str:
    if unit is BYTES:
        return f"{rate / 1e6:.3g} MB/s" if rate < 1e9 else f"{rate / 1e6:,.0f} MB/s"
    if unit is SECONDS:
        return f"{rate:.3g} × real time"
    behind = f" {unit.plural}" if unit.plural else ""
    if rate < 1:
        return f"{duration(1 / rate)} each"
    return f"{rate:,.0f}{behind}/s" if rate >= 10 else f"{rate:.1f}{behind}/s"


def _percent(share: float) -> str:
    """A share in percent, rounded down: unfinished work is never shown as 100 %."""
    return f"{int(1000 * share) / 10:.1f}%" if share < 0.1 else f"{int(100 * share)}%"


def _print(text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _is_failure(item: object) -> bool:
    return isinstance(item, tuple) and bool(item) and isinstance(item[-1], Failure)
