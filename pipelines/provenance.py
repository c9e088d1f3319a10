"""What made an output: the version of reelpack and the commit it was run from."""

import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def provenance() -> dict[str, str | None]:
    """`reelpack_version` and `git_commit`; None where there is no checkout (or no git)."""
    try:
        release: str | None = version("reelpack")
    except PackageNotFoundError:
        release = None
    return {"reelpack_version": release, "git_commit": _commit(Path(__file__).parent)}


def _commit(folder: Path) -> str | None:
    try:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
