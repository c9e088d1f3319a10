"""The report as a page that is served. The driver behind `reelpack report --serve`."""

from collections.abc import Callable, Sequence
from typing import Any

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
    **asked: Any,
) -> None:
    """Answer until an interruption.

    Args:
        dataset: dataset directory, a local path or an fsspec URL.
        runs: training runs that are shown.
        host: address to listen on, a loopback one.
        port: 0: a free one.
        on_ready: is told the address of the page.
        asked: further arguments of `curate.report.parts.parts`.

    Raises:
        ValueError: nothing was curated into `dataset`.
        OSError: the port is taken.
    """
    access, library = Access(host, is_network=False), Library(dataset, runs, **asked)
    server = ReportServer(host, port, access, library)
    try:
        import_decoders()
        library.edition.page, library.clips({})  # count once what each page has
        on_ready(server.url)
        server.serve_forever()
    finally:
        server.server_close()
