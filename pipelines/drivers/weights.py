"""`reelpack weights`: fetch what the embedded models need, and put the captioner together."""

from collections.abc import Iterator, Sequence

from caption.llava.assemble import assemble
from curate.encoders import weights
from curate.encoders.manifest import DEFAULT_NAMES
from pipelines.console.progress import console


def fetch_all(names: Sequence[str] = ()) -> Iterator[str]:
    """Fetch the named assets (none: all that the embedded models need); yields their places."""
    found = weights.fetch(names or DEFAULT_NAMES, progress=lambda line: console.print(line, highlight=False))
    yield from (f"{name}: {path}" for name, path in found.items())
    if not names:
        yield f"reelpack-llava: {assemble()}"
