"""Every command and option that a message, a help text or a page names is there."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from pipelines import train_autoencoder, train_dit
from pipelines.cli import app

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("curate", "caption", "train", "pipelines", "reelpack")
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
MODULES = {"train": "train", "caption": "caption", "pipelines.curate_videos": "curate"}
COMMAND = r"(?:reelpack|(?:python -m|torchrun [^`\n]*?-m) (?P<module>[\w.]+))(?: (?P<name>[a-z][a-z-]+))?"
OPTION = r"(?<![\w-])--[a-z][a-z-]*[a-z](?!:)\b"
"""Without the properties of CSS, which have a colon."""
FOREIGN = {"--working-dir", "--runtime-env", "--no-wait", "--import-mode", "--force-reinstall"} | {
    option
    for package in (*PACKAGES, "benchmarks")
    for path in (REPOSITORY / package).rglob("*.py")
    for option in re.findall(r'add_argument\(\s*"(--[a-z-]+)"', path.read_text())
}
"""Of Ray's `job submit`, of pytest and pip, and of scripts that are no commands."""
FOREIGN |= {"--deepspeed", "--vae", "--non-interactive", "--skip-dataset-yaml", "--split-parts"}
"""Of the tools that exports are for."""
THERE = re.findall(r"^\| (.*?) \|", (REPOSITORY / "docs/coming_from.md").read_text(), flags=re.M)
FOREIGN |= {option for cell in THERE for option in re.findall(OPTION, cell)}
STARTS = r"\s*(?:\$ )?(?:\w+=\S+ )*(?:reelpack |python -m |torchrun |ray job submit )"


def commands() -> dict[str, set[str]]:
    """The options of each command."""
    found = dict(get_command(app).commands)  # type: ignore[attr-defined]
    for module in (train_dit, train_autoencoder):
        job = typer.Typer()
        job.command()(module.train)
        found[module.__name__] = get_command(job)
    return {
        name: {o for p in one.params for o in (*p.opts, *p.secondary_opts)} | {"--help"} for name, one in found.items()
    }


def messages() -> Iterator[tuple[str, str]]:
    """File and text of strings with words in them: no single arguments of other programs."""
    for package in PACKAGES:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr):
                    text = "".join(str(v.value) if isinstance(v, ast.Constant) else "X" for v in node.values)
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    text = node.value
                else:
                    continue
                if " " in text.strip():
                    yield str(path.relative_to(REPOSITORY)), text


def code_in_pages() -> Iterator[tuple[str, str]]:
    """File and text of code: spans, and the lines of blocks, joined where they go on."""
    for path in PAGES:
        blocks = re.split(r"^```.*$", path.read_text(), flags=re.M)
        for number, block in enumerate(blocks):
            found = re.sub(r"\\\n\s*", "", block).splitlines() if number % 2 else re.findall(r"`([^`]+)`", block)
            yield from ((str(path.relative_to(REPOSITORY)), text) for text in found)


def wrong_commands(text: str, known: dict[str, set[str]]) -> Iterator[str]:
    """Commands that are not there, and options that a command has not; of text that is a command line."""
    if not re.match(STARTS, text):
        return
    for match in re.finditer(COMMAND, text):
        module = match["module"]
        name = MODULES.get(module, module) if module else match["name"]
        if module is None and name is not None and name not in known:
            yield match[0]
        elif name in known:
            arguments = re.split(r"[#|;]|&&|\breelpack\b", text[match.end() :])[0]
            yield from (
                f"{match[0]} {option}" for option in re.findall(OPTION, arguments) if option not in known[name]
            )


def test_pages_name_commands_and_options_that_are_there() -> None:
    known = commands()
    wrong = [(path, one) for path, text in code_in_pages() for one in wrong_commands(text, known)]
    every = set().union(*known.values())
    wrong += [(path, text) for path, text in code_in_pages() if re.match(OPTION, text)
              and not {*re.findall(OPTION, text)} <= every | FOREIGN]  # fmt: skip
    assert wrong == []


def test_messages_name_commands_and_options_that_are_there() -> None:
    known = commands()
    every = set().union(*known.values()) | FOREIGN
    wrong = []
    for path, text in messages():
        spans = re.findall(r"`([^`]+)`", text)
        wrong += [(path, one) for span in spans for one in wrong_commands(span, known)]
        wrong += [(path, option) for option in re.findall(OPTION, text) if option not in every]
    assert wrong == []


@pytest.mark.parametrize(
    "text", ["reelpack trian DATASET", "reelpack curate X --ouput Y", "python -m train X --worker 3 --out Y"]
)
def test_what_is_not_there_is_found(text: str) -> None:
    assert list(wrong_commands(text, commands()))
