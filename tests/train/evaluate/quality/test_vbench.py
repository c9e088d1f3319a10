"""What VBench's reader of custom input makes of an export."""

import json
import re
from pathlib import Path

import pytest

from train.evaluate.quality.vbench import export_vbench


def prompt_of(path: Path) -> str:
    """As VBench 0.1.5 does: the name up to the last dash with digits."""
    return re.sub(r"-\d+$", "", path.stem)


def test_plain_prompts_are_read_from_names_and_all_from_the_file(tmp_path: Path) -> None:
    plain, long, odd = "a cat on a mat", "a red square " * 30, "day/night - 2"
    given = [(plain, b"0"), (long, b"1"), (plain, b"2"), (odd, b"3"), ("", b"4")]
    prompts = json.loads(export_vbench(given, tmp_path).read_text())
    files = {path.name: path for path in (tmp_path / "videos").iterdir()}
    assert set(prompts) == set(files)
    assert {(prompts[name], path.read_bytes()) for name, path in files.items()} == set(given)
    assert {f"{plain}-0.mp4", f"{plain}-1.mp4"} < set(files)
    assert all(prompt_of(files[name]) == prompt for name, prompt in prompts.items() if prompt == plain)
    assert max(len(name.encode()) for name in files) < 255


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/other.mp4").write_bytes(b"")
    with pytest.raises(ValueError, match="is not empty, and VBench takes every file in it"):
        export_vbench([("a", b"0")], tmp_path)
