"""A step ends with the command that comes next, to be copied."""

import importlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines.cli import main
from pipelines.inspection.status import status
from tests.support.curated import curated


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    return curated(tmp_path_factory.mktemp("next"))


@pytest.mark.parametrize("command", ["curate", "caption", "encode"])
def test_a_step_ends_with_the_next_command(
    command: str, made: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = SimpleNamespace(num_indexed=1, num_captions=1, num_clips=1)
    driver = importlib.import_module(f"pipelines.drivers.{command}")
    monkeypatch.setattr(driver, command, lambda *_, **__: done)
    monkeypatch.setattr(f"pipelines.commands.{command}.show", lambda *_: None)
    arguments = [str(Path(made.films)), "--out", made.url] if command == "curate" else [made.url]
    with pytest.raises(SystemExit) as stopped:
        main([command, *arguments])
    assert stopped.value.code == 0
    found = status(made.url)
    assert capsys.readouterr().out.splitlines()[-2:] == [f"next ({found.why}):", found.next_command]
