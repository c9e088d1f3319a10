"""How a command line ends."""

from pathlib import Path

import pytest
import typer

from pipelines.commands.entry import run


@pytest.mark.parametrize("name", ["file", "file/below", "file/far/below"])
def test_a_file_where_a_folder_is_expected_is_named_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / "file").write_text("")
    alone = typer.Typer()
    alone.command()(lambda: (tmp_path / name).mkdir(parents=True))
    with pytest.raises(SystemExit) as ended:
        run(alone, [])
    assert ended.value.code == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"{tmp_path}/file is a file, and a folder is expected there; choose another name" in said
