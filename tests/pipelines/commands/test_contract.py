"""What holds for every command, and for one that is added as CONTRIBUTING.md says: by one file and one line."""

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import typer
from typer.main import get_command

import pipelines.cli
import pipelines.commands
from pipelines.cli import COMMANDS, app
from pipelines.commands.entry import run
from tests.support.curated import curated

PAGE = (Path(__file__).parents[3] / "CONTRIBUTING.md").read_text().partition("## A command\n")[2]


def check_contract(name: str, app: typer.Typer) -> None:
    command = get_command(app).commands[name]  # type: ignore[attr-defined]
    module = importlib.import_module(f"pipelines.commands.{name.replace('-', '_')}")
    assert (module.__doc__ or "").startswith(f"`reelpack {name}`: ")
    assert command.rich_help_panel and command.help.splitlines()[0].endswith(".")
    assert [one.name for one in command.params if not getattr(one, "help", None)] == []


@pytest.mark.parametrize("name", [name for name, _ in COMMANDS])
def test_a_command_is_a_file_with_help_for_all_that_it_takes(name: str) -> None:
    check_contract(name, app)


def test_every_file_with_a_command_has_its_line() -> None:
    folder = Path(pipelines.commands.__path__[0])
    of_commands = [path for path in folder.glob("*.py") if path.read_text().startswith('"""`reelpack ')]
    assert {path.stem.replace("_", "-") for path in of_commands} == {name for name, _ in COMMANDS}


def test_a_command_is_added_by_the_file_and_the_line_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (file,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.S)
    before, line = re.findall(r"```diff\n (.*)\n\+(.*)\n```", PAGE)[0]
    source = Path(pipelines.cli.__file__).read_text()
    assert source.count(f"{before}\n") == 1
    (tmp_path / "num_clips.py").write_text(file)
    monkeypatch.setattr(pipelines.commands, "__path__", [*pipelines.commands.__path__, str(tmp_path)])
    module = ModuleType("cli")
    exec(source.replace(f"{before}\n", f"{before}\n{line}\n"), module.__dict__)
    try:
        check_contract("num-clips", module.app)
        made = curated(tmp_path / "made")
        with pytest.raises(SystemExit) as stopped:
            run(module.app, ["num-clips", made.url])
    finally:
        sys.modules.pop("pipelines.commands.num_clips", None)
    assert stopped.value.code == 0
    assert capsys.readouterr().out.splitlines()[-1] == "2 clips"
