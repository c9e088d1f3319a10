"""Models that settings name: folders of exported or imported ones, and the embedded generator."""

from pathlib import Path

EMBEDDED = "embedded"
EMBEDDED_FOLDER = Path(__file__).parents[1] / "model" / "reelpack_dit"
"""The embedded generator, exported (docs/models/reelpack_dit.md)."""


def model_folder(name: str | Path) -> Path:
    """Of a path or `embedded`."""
    return EMBEDDED_FOLDER if name == EMBEDDED else Path(name)
