"""Command lines in manifests, scripts and documentation: does reelpack have these commands, options and settings?"""

import importlib
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer

from pipelines import cli
from pipelines.config import load_config

FUNCTIONS = ("curate", "caption", "encode", "train")
ENTRY = re.compile(r"(?:python -m (?:pipelines\.\w+|train)|\breelpack [a-z-]+)\b.*")


def check_words(words: Sequence[str]) -> None:
    """Parse a command line as it would be, and resolve its settings.

    Raises:
        UsageError: of Typer's click: an option or an argument that the command does not have, or lacks.
        ValueError: a setting that is none.
    """
    rest = list(words[3:] if words[0] == "python" else words[2:])
    _command(words).make_context("job", list(rest))
    config = rest[rest.index("--config") + 1] if "--config" in rest else None
    load_config(config, [rest[at + 1] for at, word in enumerate(rest) if word == "--set"])


def _command(words: Sequence[str]) -> Any:
    if words[0] == "reelpack":
        group: Any = typer.main.get_command(cli.app)
        return group.commands[words[1]]
    entry = importlib.import_module("pipelines.commands.train" if words[2] == "train" else words[2])
    (function,) = (entry.__dict__[name] for name in FUNCTIONS if name in entry.__dict__)
    alone = typer.Typer()
    alone.command()(function)
    return typer.main.get_command(alone)


def command_lines(file: Path) -> Iterator[list[str]]:
    """Those of reelpack in the code blocks of a page, or in the comments of a script."""
    text = file.read_text()
    comments = "\n".join(line.removeprefix("#") for line in text.splitlines() if line.startswith("#     "))
    blocks = re.findall(r"^```\n(.*?)^```", text, re.S | re.M) if file.suffix == ".md" else [comments]
    for block in blocks:
        for line in block.replace("\\\n", " ").replace(" #  ", " ").splitlines():
            if found := ENTRY.search(line):
                yield shlex.split(found[0], comments=True)
