"""The report as a page that is served. The driver behind `reelpack report --serve`."""

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlencode

from curate.threads import import_decoders
from pipelines.serve.access import Access
from pipelines.viewer.library import Library
from pipelines.viewer.server import ReportServer


def serve_report(
    dataset: str,
    runs: Sequence[str] = (),
    *,
    host: str = "127.0.0.1",
    port: int,
    on_ready: Callable[[str], None],
    against: str | None = None,
    **asked: Any,
) -> None:
    """Answer until an interruption.

    Args:
        dataset: dataset directory, a local path or an fsspec URL.
        runs: training runs that are shown.
        host: address to listen on, a loopback one.
        port: 0: a free one.
        on_ready: is told the address of the page.
        against: number of a version, or another dataset, that the page begins beside.
        asked: further arguments of `curate.report.parts.parts`.

    Raises:
        ValueError: nothing was curated into `dataset`.
        OSError: the port is taken.
    """
    access, library = Access(host, is_network=False), Library(dataset, runs, against, **asked)
    server = ReportServer(host, port, access, library)
    try:
        import_decoders()
        library.edition.page, library.clips({})  # count once what each page has
        library.edition.against(against or "")
        on_ready(f"{server.url}&{urlencode({'against': against})}" if against else server.url)
        server.serve_forever()
    finally:
        server.server_close()
