"""Environments that hold what one extra brings, and nothing else of what is installed here.

By default such an environment is a folder of links to the installed distributions that the extra's requirements come
to: it costs nothing, and what an extra forgets cannot be imported. With REELPACK_EXTRAS=fresh (`make extras`) it is a
virtual environment of its own, into which pip installs the extra.
"""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
RUN = """
import json, sys

sys.path[:0] = json.loads(sys.argv[1])
from pipelines.cli import main

for words in json.loads(sys.argv[2]):
    try:
        main(words)
    except SystemExit as ended:
        if ended.code:
            raise
"""


def python_with(extras: str, folder: Path) -> list[str]:
    """What runs command lines of `reelpack` with these extras (comma-separated, "" for none), in turn until
    one fails: they follow as one argument, a list of lists of words as JSON."""
    if os.environ.get("REELPACK_EXTRAS") == "fresh":
        return [str(_installed(extras, folder) / "bin/python"), "-I", "-c", RUN, "[]"]
    site = folder / "site"
    for found in _closure(extras.split(",") if extras else []):
        _link(found, site)
    _describe(site)
    return [sys.executable, "-I", "-S", "-c", RUN, json.dumps([str(ROOT), str(site)])]


def _installed(extras: str, folder: Path) -> Path:
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin/pip"), "install", "--quiet", "--no-compile", "-c", str(ROOT / "constraints.txt")]
    subprocess.run([*pip, "torch"], check=True)
    subprocess.run([*pip, f"{ROOT}[{extras}]" if extras else str(ROOT)], check=True)
    return folder


def _describe(site: Path) -> None:
    """The project's metadata, as its wheel has it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = ["Metadata-Version: 2.1", f"Name: {project['name']}", f"Version: {project['version']}"]
    for extra, texts in project["optional-dependencies"].items():
        lines += [f'Requires-Dist: {text.partition(";")[0]}; extra == "{extra}"' for text in texts]
    folder = site / f"{project['name']}-{project['version']}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("\n".join(lines) + "\n")


def _closure(extras: Sequence[str]) -> list[Distribution]:
    """The distributions that pip would install for the project with these extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    waiting = [Requirement(text) for text in project["dependencies"]]
    waiting += [Requirement(text) for extra in extras for text in project["optional-dependencies"][extra]]
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement = waiting.pop()
        for extra in ("", *requirement.extras):
            if (requirement.name, extra) in seen:
                continue
            seen.add((requirement.name, extra))
            try:
                found[requirement.name] = one = distribution(requirement.name)
            except PackageNotFoundError:  # of another platform, or what the wheel that is installed here does not need
                continue
            needed = [Requirement(text) for text in one.requires or ()]
            waiting += [other for other in needed if not other.marker or other.marker.evaluate({"extra": extra})]
    return list(found.values())


def _link(one: Distribution, site: Path) -> None:
    for path in _top(one):
        target = site / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            target.symlink_to(path)


def _top(one: Distribution) -> Iterator[Path]:
    """Files and folders of a distribution, right in site-packages."""
    root = Path(str(one.locate_file("")))
    names = {file.parts[0] for file in one.files or ()}
    return (root / name for name in sorted(names) if name not in ("..", "__pycache__"))
