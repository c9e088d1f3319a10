"""Runs docs/quickstart.ipynb headless, on an excerpt of the demo's film, and keeps its outputs in the file.

    python -m benchmarks.quickstart --out FOLDER [--check]

Needs `pip install 'reelpack[docs]'` and the embedded weights. An error in a cell is an error here.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import described
from curate.media.encode import encode_mp4
from curate.media.frames import iter_frames
from pipelines.demo.inputs import FPS, MEDIA

NOTEBOOK = Path(__file__).parents[1] / "docs/quickstart.ipynb"
NUM_FRAMES, SHORT_SIDE_PX = 10 * FPS, 180
LIMIT_S = 1800


def write_videos(folder: Path) -> None:
    """The excerpt, and a file that is no video."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = []
    for frame in iter_frames(str(MEDIA / "bbb_a.mp4"), short_side_px=SHORT_SIDE_PX):
        frames.append(frame.rgb)
        if len(frames) == NUM_FRAMES:
            break
    (folder / "rabbit.mp4").write_bytes(encode_mp4(np.stack(frames), FPS))
    (folder / "notes.mp4").write_text("This is no video.\n")


def run(out: Path, *, keep: bool) -> float:
    """Run the cells in `out`; seconds."""
    import nbformat
    from nbclient import NotebookClient

    write_videos(out / "videos")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    start = time.monotonic()
    NotebookClient(notebook, timeout=LIMIT_S, resources={"metadata": {"path": str(out)}}).execute()
    seconds = time.monotonic() - start
    if keep:
        shorten(notebook)
        nbformat.write(notebook, NOTEBOOK)
    return seconds


def shorten(notebook: Any) -> None:
    """Leave out when cells ran, what libraries write to stderr, and pictures as PNG that are there as JPEG."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
            for data in (one.get("data", {}) for one in cell.outputs):
                if "image/jpeg" in data:
                    data.pop("image/png", None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="empty folder for the dataset and the run")
    parser.add_argument("--check", action="store_true", help="leave the file as it is")
    given = parser.parse_args()
    seconds = run(given.out, keep=not given.check)
    print(f"docs/quickstart.ipynb: {seconds:.0f} s; {described()}")


if __name__ == "__main__":
    main()
