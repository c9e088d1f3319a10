"""Folders that hold no run, or a damaged one."""

import re
from pathlib import Path

import pytest

from train.run.folder import read_run


@pytest.mark.parametrize(("name", "text"), [("config.yaml", "{: ["), ("run.json", ""), ("run.json", '{"fps": 1')])
def test_a_file_that_is_damaged_is_named(tmp_path: Path, name: str, text: str) -> None:
    for file, content in {"config.yaml": "{}", "run.json": "{}", name: text}.items():
        (tmp_path / file).write_text(content)
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path}/{name}: is damaged (")):
        read_run(tmp_path)


def test_a_file_in_place_of_a_run_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(ValueError, match=r"no training run here .*`reelpack train` writes one"):
        read_run(tmp_path / "run")
