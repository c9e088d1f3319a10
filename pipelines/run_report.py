"""A run's page, written while it trains."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from curate.threads import import_decoders

OnRow = Callable[[dict[str, Any]], None]


@contextmanager
def reported(out: str, build: Callable[[str], str]) -> Iterator[OnRow]:
    """After each evaluation a thread writes RUN/report.html while training continues, if the one before has ended. The
    main rank, which alone is told rows, writes it once more at the end.

    Args:
        out: the run.
        build: writes the page.
    """
    writing: Future[str] | None = None
    is_told = False

    def on_row(row: dict[str, Any]) -> None:
        nonlocal writing, is_told
        is_told = True
        if "loss" not in row and (writing is None or writing.done()):
            writing = pool.submit(build, out)

    import_decoders()  # of samples, which the steps write and the report reads
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="report") as pool:
        yield on_row
    if is_told:
        build(out)
