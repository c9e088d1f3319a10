"""`reelpack weights`: fetch what the embedded models need, and put the captioner together."""

from collections.abc import Iterator, Sequence

from caption.llava.assemble import assemble
from curate.encoders import weights
from pipelines.progress import console

NEEDED = ("efficientnet-lite0", "minilm-l6-v2", "smollm2-135m-instruct")


def fetch_all(names: Sequence[str] = ()) -> Iterator[str]:
    """Fetch the named assets (none: all that the embedded models need); yields their places."""
    weights.fetch(names or NEEDED, progress=lambda line: console.print(line, highlight=False))
    for name in names or NEEDED:
        yield f"{name}: {weights.resolve(name)}"
    if not names:
        yield f"reelpack-llava: {assemble()}"
