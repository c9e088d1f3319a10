"""`reelpack demo`: run the whole pipeline on the embedded film."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option(help="folder for the demo's inputs, dataset and run")] = Path("demo_output"),
) -> None:
    """Run the whole pipeline on an excerpt of Big Buck Bunny, with the embedded models."""
    from pipelines.demo.run import run_demo

    run_demo(out)
